// The views of "Inside the network", for the pose that is shown.
import { channelOf, drawChannels, drawMap, drawSquares, highest } from "./drawing.js";
import { measureReach, sizeOf } from "./pose.js";

const { joint_names: joints } = PAGE.card.skeleton;
const MAPS = [
  ...[1, 2, 3, 4, 5].map((i) => [`stage${i}`, `stage ${i}`]),
  ...[3, 4].map((i) => [`larm${i}_in`, `stage ${i}: before LARM`]),
  ...[3, 4].map((i) => [`larm${i}_out`, `stage ${i}: after LARM`]),
];
const STRIDES = { stage3: 8, stage4: 16, heatmaps: 4 };
const $ = (id) => document.getElementById(id);

let shown = null; // {pose, options, runtime}
let markedSize = 0; // crop size for which the mark of LARM's reach was placed
let joint = joints.indexOf("left_wrist");

export function prepareInside() {
  for (const [name, title] of MAPS) $("map").add(new Option(title, name));
  $("map").value = "stage3";
  joints.forEach((name, k) => {
    const button = document.createElement("button");
    button.append(document.createElement("canvas"), document.createElement("span"));
    button.addEventListener("click", () => ((joint = k), forgetReach(), showInside(shown)));
    $("heatmaps").append(button);
  });
  $("map").addEventListener("change", showMap);
  $("target").addEventListener("change", () => (centreMark(), forgetReach(), showCrops()));
  for (const id of ["column", "row"]) $(id).addEventListener("input", () => (forgetReach(), showCrops()));
  for (const id of ["reach-on", "reach-off"]) $(id).addEventListener("click", moveMark);
  $("measure").addEventListener("click", measure);
  for (const stride of [16, 8, 4]) {
    const row = document.createElement("div");
    row.className = "row";
    row.id = `fusion${stride}`;
    const titles = ["upsampling path", "backbone", "result", "from the upsampling path", "from the backbone"];
    const figures = titles.map((title) => `<figure><canvas></canvas><figcaption>${title}</figcaption></figure>`);
    row.innerHTML = `<p></p>${figures.join("")}`;
    $("fusions").append(row);
  }
}

// Show a pose that was found with `inside`.
export function showInside(what) {
  const isNew = shown?.pose !== what.pose;
  shown = what;
  const { heatmaps } = what.pose.outputs;
  [...$("heatmaps").children].forEach((button, k) => {
    drawMap(button.firstChild, channelOf(heatmaps, k), heatmaps.dims.slice(2), 0, 1);
    button.lastChild.textContent = `${joints[k].replace("_", " ")}\n${what.pose.keypoints[k][2].toFixed(2)}`;
    button.setAttribute("aria-pressed", k === joint);
  });
  const glass = "stage1" in what.pose.outputs;
  $("inside-note").textContent = glass ? "" : "The 8-bit file has no inner maps. Choose 32 bits to see more.";
  $("maps-and-reach").hidden = !glass;
  if (!glass) return;
  if (markedSize !== sizeOf(what.options)) centreMark();
  if (isNew) forgetReach();
  showMap();
  showCrops();
  for (const stride of [16, 8, 4]) showFusion(stride);
}

function showMap() {
  const { dims } = shown.pose.outputs[$("map").value];
  $("map-note").textContent =
    `${dims[1]} channels of ${dims[2]} × ${dims[3]}. Each tile is one channel on its own scale; yellow is high.`;
  drawChannels($("maps"), shown.pose.outputs[$("map").value]);
}

function showFusion(stride) {
  const outputs = shown.pose.outputs, get = (part) => outputs[`fusion${stride}_${part}`], row = $(`fusion${stride}`);
  const canvases = row.querySelectorAll("canvas"), [, , h, w] = get("out").dims;
  ["decoder", "encoder", "out"].forEach((part, i) => {
    const C = get(part).dims[1], mean = new Float32Array(h * w);
    for (let c = 0; c < C; c++) channelOf(get(part), c).forEach((value, p) => (mean[p] += Math.abs(value) / C));
    drawMap(canvases[i], mean, [h, w], 0, highest(mean));
  });
  const parts = [get("from_decoder").data, get("from_encoder").data], top = Math.max(...parts.map(highest));
  parts.forEach((part, i) => drawMap(canvases[3 + i], part, [h, w], 0, top));
  const [decoder, encoder] = parts.map((part) => part.reduce((a, b) => a + b));
  const share = Math.round((100 * encoder) / (decoder + encoder));
  row.firstChild.textContent = `Stride ${stride}, ${h} × ${w}: ${share} % of the two parts' length is the backbone's.`;
}

// LARM's reach

function place() {
  const output = $("target").value;
  const [x, y] = ["column", "row"].map((id) => Math.min($(id).max, Math.max(0, Math.floor($(id).value))));
  if (output !== "heatmaps") return { output, x, y };
  const { heatmaps } = shown.pose.outputs, map = channelOf(heatmaps, joint), width = heatmaps.dims[3];
  const peak = map.indexOf(highest(map));
  return { output, channel: joint, x: peak % width, y: Math.floor(peak / width) };
}

function centreMark() {
  const output = $("target").value, cells = sizeOf(shown.options) / STRIDES[output];
  markedSize = sizeOf(shown.options);
  for (const id of ["column", "row"])
    Object.assign($(id), { max: cells - 1, value: cells / 2, disabled: output === "heatmaps" });
}

function moveMark(event) {
  if ($("column").disabled) return;
  const box = event.currentTarget.getBoundingClientRect(), cells = sizeOf(shown.options) / STRIDES[$("target").value];
  $("column").value = Math.floor(((event.clientX - box.left) / box.width) * cells);
  $("row").value = Math.floor(((event.clientY - box.top) / box.height) * cells);
  forgetReach();
  showCrops();
}

function forgetReach() {
  for (const id of ["reach-on-text", "reach-off-text"]) $(id).textContent = "not measured";
  $("progress").value = 0;
}

function showCrops(reach = {}) {
  const { output, x, y } = place(), half = output === "heatmaps" ? 0 : 0.5;
  const mark = [(x + half) * STRIDES[output], (y + half) * STRIDES[output]];
  for (const id of ["reach-on", "reach-off"])
    drawSquares($(id), shown.pose.crop, sizeOf(shown.options), reach[id], mark);
}

async function measure() {
  const { pose, options, runtime } = shown, where = place(), reach = {};
  $("measure").disabled = true;
  forgetReach();
  for (const id of ["reach-on", "reach-off"]) {
    const settings = { ...options, switches: { ...options.switches, larm: id === "reach-on" } };
    reach[id] = await measureReach(runtime, pose.crop, settings, where, () => $("progress").value++);
    if (shown.pose !== pose) break; // another picture came meanwhile
    const moving = reach[id].filter((value) => value > 0).length;
    $(`${id}-text`).textContent =
      `${moving} of 64 squares change this output, by up to ${(100 * highest(reach[id])).toFixed(1)} % of its length`;
    showCrops(reach);
  }
  $("measure").disabled = false;
}
