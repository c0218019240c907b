// The live page: picture sources, settings, what is shown and downloaded.
import { drawBox, drawPose } from "./drawing.js";
import { openDetector } from "./detector.js";
import { prepareInside, showInside } from "./inside.js";
import { boxOfNext, eachOnce, findOnly, findPose, whole } from "./pose.js";
import { asCsv, asJson } from "./results.js";
import { Runtime, loadAsset } from "./runtime.js";

const { card, pictures } = PAGE;
const LARGEST_FRAME = 640; // longest side of a video's frame as the network sees it
const DETECT_EVERY = 3; // frames of a video
const LOST = 0.25; // a person with a lower score is looked for again in the whole frame
const $ = (id) => document.getElementById(id);
const view = $("view"), context = view.getContext("2d", { willReadFrequently: true });
const frameCanvas = document.createElement("canvas"),
  frameContext = frameCanvas.getContext("2d", { willReadFrequently: true });
const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, loop: true });

// picture: {data, width, height, source}, name; box: the user's, or null; people: of the picture; frames: results of a
// video's frames so far, null for a picture; detect: the detector, or null; detecting: the promise of its loading
const state = {
  runtime: null, picture: null, name: "", box: null, people: [], frames: null, detect: null, detecting: null,
};
let busy = false, again = false;

// What is chosen on the page

const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
const options = () => ({
  decoder: chosen("decoder"),
  model: chosen("model"),
  switches: Object.fromEntries(
    ["larm", "residual", "encoder"].map((id) => [id, $(id).checked || chosen("model") === "int8-128"]),
  ),
});

function say(text, isError = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

// Run a function whose errors are shown on the page.
const shows =
  (work) =>
  async (...args) => {
    try {
      await work(...args);
    } catch (error) {
      say(error.message ?? String(error), true);
    }
  };

// Pictures

function grab(source, width, height) {
  Object.assign(frameCanvas, { width, height });
  frameContext.drawImage(source, 0, 0, width, height);
  return frameContext.getImageData(0, 0, width, height);
}

async function openPicture(blob, name, box = null) {
  const bitmap = await createImageBitmap(blob).catch(() => {
    throw new Error(`${name}: not a picture or video that this browser can read`);
  });
  await showPicture(bitmap, name, box);
}

function showPicture(source, name, box) {
  stop();
  const { data, width, height } = grab(source, source.width, source.height);
  Object.assign(state, { picture: { data, width, height, source }, name, box, frames: null });
  return analyse();
}

const openBundled = shows(async ({ name, box }) => openPicture(new Blob([await loadAsset(name)]), name, box));

// Find and show the people of the picture. A call while another one runs makes that one start again.
const analyse = shows(async () => {
  if (!state.picture || !state.runtime) return;
  again = busy;
  if (busy) return;
  busy = true;
  try {
    do {
      again = false;
      await analyseOnce();
    } while (again);
  } finally {
    busy = false;
  }
});

async function analyseOnce() {
  const { picture, runtime } = state, settings = options();
  await runtime.session(settings.model); // loading does not count as time
  if (!state.box) await state.detecting;
  const start = performance.now();
  const boxes = state.box ? [{ box: state.box }] : state.detect ? await state.detect(picture.source) : null;
  const one = (box, more) => findPose(runtime, picture, box, settings, more);
  const found = boxes
    ? await inTurn(boxes, ({ box, score }) => one(box, { boxScore: score, inside: boxes.length === 1 }))
    : [await findOnly(runtime, picture, settings, { inside: true })];
  state.people = eachOnce(found);
  const [best] = state.people;
  if (found.length > 1) Object.assign(best, await one(best.box_xywh, { inside: true }), { score: best.score });
  draw();
  facts({ ms: performance.now() - start });
  say(best ? "" : "The detector found nobody. Drag a box around a person.");
  if (best) showInside({ pose: best, options: settings, runtime });
}

// Draw picture and people; small pictures are enlarged, so that lines are smooth.
function draw() {
  if (!state.picture) return;
  const { width, height, source } = state.picture, scale = Math.max(1, Math.ceil(900 / Math.max(width, height)));
  Object.assign(view, { width: width * scale, height: height * scale });
  view.style.setProperty("--aspect", width / height);
  context.scale(scale, scale);
  context.drawImage(source, 0, 0, width, height);
  if ($("show-box").checked) for (const { box_xywh } of state.people) drawBox(context, box_xywh);
  for (const pose of state.people) drawPose(context, pose, card.skeleton, Math.max(width, height));
}

function facts({ ms, fps }) {
  const scores = state.people.map(({ score }) => score.toFixed(2)).join(", ");
  const rows = {
    People: `${state.people.length}${scores && `, score ${scores}`}`,
    "Running on": state.runtime.name,
    [fps ? "Frame rate" : "Time"]: fps
      ? `${fps.toFixed(1)} frames per second`
      : `${ms.toFixed(0)} ms from picture to joints`,
  };
  $("facts").replaceChildren(
    ...Object.entries(rows).flatMap(([key, value]) =>
      [
        ["dt", key],
        ["dd", value],
      ].map(([tag, text]) => Object.assign(document.createElement(tag), { textContent: text })),
    ),
  );
  const mode = state.box
    ? "One person, in the white box."
    : state.detect
      ? "All people whom the detector finds."
      : "One person is looked for, without a detector.";
  $("people-mode").textContent = mode;
}

// Videos and webcam

const openVideo = shows(async (source, name) => {
  stop();
  Object.assign(video, typeof source === "string" ? { srcObject: null, src: source } : { srcObject: source });
  await video.play().catch(() => {
    throw new Error(`${name}: not a video that this browser can play`);
  });
  Object.assign(state, { name, box: null, people: [], frames: [] });
  for (const id of ["pause", "stop"]) $(id).hidden = false;
  say("");
  await playFrames(video.srcObject ?? video.src);
});

async function playFrames(playing) {
  const times = [], plays = () => state.frames && (video.srcObject ?? video.src) === playing;
  for (let frame = 0; plays(); frame++) {
    const scale = Math.min(1, LARGEST_FRAME / Math.max(video.videoWidth, video.videoHeight));
    const [width, height] = [video.videoWidth, video.videoHeight].map((side) => Math.round(side * scale));
    const { data } = grab(video, width, height);
    state.picture = { data, width, height, source: frameCanvas };
    const people = await followPeople(state.picture, frame);
    if (!plays()) return; // stopped meanwhile
    state.people = people;
    state.frames.push({ frame, time_s: video.currentTime, scale, people: state.people.map(withoutMaps) });
    draw();
    times.push(performance.now());
    if (times.length > 20) times.shift();
    if (times.length > 1) facts({ fps: (1000 * (times.length - 1)) / (times.at(-1) - times[0]) });
    await new Promise(requestAnimationFrame);
  }
}

// Return the people of a frame: in the detector's boxes, or in the box around the joints of the frame before.
async function followPeople(picture, frame) {
  const settings = options(), { runtime } = state;
  if (state.detect && frame % DETECT_EVERY === 0) {
    const found = await state.detect(frameCanvas);
    return eachOnce(
      await inTurn(found, ({ box, score }) => findPose(runtime, picture, box, settings, { boxScore: score })),
    );
  }
  const boxes = state.people
    .filter(({ score }) => score > LOST)
    .map(boxOfNext)
    .filter(Boolean);
  if (state.detect || boxes.length) return inTurn(boxes, (box) => findPose(runtime, picture, box, settings));
  return [await findPose(runtime, picture, whole(picture), settings, { padding: 1 })];
}

async function inTurn(list, work) {
  const results = [];
  for (const one of list) results.push(await work(one));
  return results;
}

const withoutMaps = ({ box_xywh, score, keypoints }) => ({ box_xywh, score, keypoints });

function stop() {
  if (!state.frames) return;
  video.pause();
  video.srcObject?.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
  if (video.src) URL.revokeObjectURL(video.src);
  video.removeAttribute("src");
  state.frames = null;
  for (const id of ["pause", "stop"]) $(id).hidden = true;
}

// Take the frame that is shown as a picture. Its inner maps are shown, and its results can be downloaded alone.
async function lookInside() {
  const box = state.people.map(boxOfNext).find(Boolean);
  await showPicture(await createImageBitmap(frameCanvas), `${state.name}, frame`, (!state.detect && box) || null);
}

const openFile = shows(async (file) => {
  if (!file) return;
  if (file.type.startsWith("video/")) await openVideo(URL.createObjectURL(file), file.name);
  else await openPicture(file, file.name);
});

async function openCamera() {
  if (!navigator.mediaDevices)
    throw new Error("The browser gives the webcam only to secure pages: HTTPS, localhost, or a page on your disk.");
  const stream = await navigator.mediaDevices.getUserMedia({ video: true }).catch((error) => {
    throw new Error(`No webcam: ${error.message}`);
  });
  await openVideo(stream, "webcam");
}

// Detectors that are open, or being opened, by the value of their option.
const detectors = new Map();

async function takeDetector() {
  const name = $("detector").value;
  if (name === "lgm-det" && !detectors.has(name))
    detectors.set(name, loadAsset(name).then((bytes) => openDetector(bytes, state.runtime)));
  const detecting = (state.detecting = detectors.get(name) ?? null), detect = await detecting;
  if (detecting === state.detecting) state.detect = detect; // else another one was chosen meanwhile
}

async function changeDetector() {
  await takeDetector();
  state.box = null;
  if (!state.frames) await analyse();
}

async function openOwnDetector(file) {
  if (!file) return;
  detectors.set("own", await openDetector(new Uint8Array(await file.arrayBuffer()), state.runtime));
  $("detector").querySelector('[value="own"]')?.remove();
  $("detector").append(new Option(`all people (${file.name})`, "own", false, true));
  await changeDetector();
}

function download(name, text, type) {
  const link = Object.assign(document.createElement("a"), {
    href: URL.createObjectURL(new Blob([text], { type })),
    download: name,
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Boxes by pointer and by keyboard

let dragged = null;

function pointOf(event) {
  const { left, top, width, height } = view.getBoundingClientRect();
  return [
    ((event.clientX - left) / width) * state.picture.width,
    ((event.clientY - top) / height) * state.picture.height,
  ];
}

function setBox(box) {
  state.box = box;
  return state.frames ? null : analyse();
}

view.addEventListener("pointerdown", (event) => {
  if (state.frames || !state.picture) return;
  dragged = pointOf(event);
  view.setPointerCapture(event.pointerId);
});
view.addEventListener("pointermove", (event) => {
  if (!dragged) return;
  draw();
  drawBox(context, between(dragged, pointOf(event)));
});
view.addEventListener("pointerup", (event) => {
  const box = dragged && between(dragged, pointOf(event));
  dragged = null;
  if (box && Math.min(box[2], box[3]) >= 8) setBox(box);
  else if (box) draw();
});
const between = ([x, y], [x2, y2]) => [Math.min(x, x2), Math.min(y, y2), Math.abs(x2 - x), Math.abs(y2 - y)];

view.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (state.frames || !(step || event.key === "Escape")) return;
  event.preventDefault();
  if (!step) return setBox(null);
  const unit = 0.03 * Math.max(state.picture.width, state.picture.height),
    box = [...(state.box ?? state.people[0]?.box_xywh ?? whole(state.picture))];
  for (const axis of [0, 1]) box[axis + (event.shiftKey ? 2 : 0)] += unit * step[axis];
  setBox([box[0], box[1], Math.max(unit, box[2]), Math.max(unit, box[3])]);
});

// The page

function prepare() {
  const on = (id, event, work) => $(id).addEventListener(event, shows(work));
  for (const picture of pictures) {
    const button = Object.assign(document.createElement("button"), { textContent: picture.title });
    button.addEventListener("click", () => openBundled(picture));
    $("sources").append(button);
  }
  $("weights").textContent = `${card.weights.file} (${card.weights.sha256})`;
  on("open", "click", () => $("file").click());
  on("file", "change", ({ target }) => openFile(target.files[0]));
  on("detector", "change", changeDetector);
  on("open-detector", "click", () => $("detector-file").click());
  on("detector-file", "change", ({ target }) => openOwnDetector(target.files[0]));
  on("camera", "click", openCamera);
  on("pause", "click", lookInside);
  on("stop", "click", stop);
  on("json", "click", () => download("poses.json", JSON.stringify(asJson(state)), "application/json"));
  on("csv", "click", () => download("poses.csv", asCsv(asJson(state)), "text/csv"));
  on("show-box", "change", draw);
  for (const input of document.querySelectorAll('input[name="decoder"], input[name="model"], #switches input'))
    input.addEventListener("change", () => {
      $("switches").disabled = chosen("model") === "int8-128"; // the 8-bit file has no switches
      if (!state.frames) analyse();
    });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    openFile(event.dataTransfer.files[0]);
  });
  prepareInside();
}

function offerRuntimes() {
  const { runtime } = state;
  for (const provider of runtime.providers) {
    const label = document.createElement("label"), radio = document.createElement("input");
    Object.assign(radio, { type: "radio", name: "provider", checked: provider === runtime.provider });
    radio.addEventListener("change", () => {
      runtime.provider = provider;
      if (!state.frames) analyse();
    });
    label.append(radio, ` ${{ wasm: "WebAssembly", webgpu: "WebGPU" }[provider]}`);
    $("runtimes").append(label);
  }
  if (runtime.providers.length === 1) $("runtimes").append("This browser has no WebGPU.");
}

shows(async () => {
  prepare();
  state.runtime = await Runtime.open();
  offerRuntimes();
  await openBundled(pictures[0]);
  await takeDetector();
})();

// Return the time of one crop in milliseconds.
async function time(name) {
  const session = await state.runtime.session(name), start = performance.now();
  await state.runtime.run(session, { images: [new Float32Array(3 * 128 * 128), [1, 3, 128, 128]] }, ["heatmaps"]);
  return performance.now() - start;
}

globalThis.lgmLive = { state, time, isBusy: () => busy }; // for tests, and for the browser's console
