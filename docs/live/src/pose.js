// From a picture to poses: boxes, crops, network, decoder, joints in picture pixels; and LARM's reach.
import { PADDING, boxAround, cropPicture, cropTransform, normalise, toPicture } from "./crop.js";
import { decode, personScore } from "./decode.js";

const { card } = PAGE;
const THRESHOLD = 0.2; // joints above it give the box of the next look
const SAME_PERSON = 0.9; // above this similarity, two poses are of one person
const LOOKS = 3; // without a box: the whole picture, then twice the box around the joints found so far

export const whole = (picture) => [0, 0, picture.width, picture.height];

// Return the name of the network that has what is asked for: the plain form is faster, the glass box has inner maps.
function networkFor({ model, switches }, inside) {
  const all = Object.values(switches).every(Boolean);
  return model === "glass-128" && all && !inside ? "plain-128" : model;
}

// Run the network on crops (RGB bytes). Return {name: {data, dims}}; `outputs`: names, or undefined for all.
export async function runNetwork(runtime, crops, options, outputs) {
  const name = networkFor(options, outputs?.join() !== "heatmaps"), size = sizeOf(options);
  const images = new Float32Array(crops.length * 3 * size * size);
  crops.forEach((crop, i) => images.set(normalise(crop, card), i * 3 * size * size));
  const inputs = { images: [images, [crops.length, 3, size, size]] };
  if (name.startsWith("glass"))
    for (const [part, on] of Object.entries(options.switches)) inputs[part] = [new Float32Array([Number(on)]), []];
  return runtime.run(await runtime.session(name), inputs, outputs);
}

export const sizeOf = ({ model }) => Number(model.split("-")[1]);

// Return the pose of the person in a box, with the crop, and with all outputs of the network if `inside`.
export async function findPose(runtime, picture, box, options, { padding, inside = false, boxScore = 1 } = {}) {
  const size = sizeOf(options), transform = cropTransform(box, size, padding);
  const crop = cropPicture(picture, transform, size);
  const all = inside && options.model.startsWith("glass");
  const outputs = await runNetwork(runtime, [crop], options, all ? undefined : ["heatmaps"]);
  const { data, dims } = outputs.heatmaps;
  const { points, scores } = decode(data, dims.slice(1), options.decoder, card.codec.sigma);
  const keypoints = points.map((point, joint) => [...toPicture(transform, point), scores[joint]]);
  return { box_xywh: box, score: personScore(scores, boxScore), keypoints, crop, points, outputs };
}

// Return the pose of the only person of a picture, from the whole picture and then from the box around its joints.
export async function findOnly(runtime, picture, options, { inside = false } = {}) {
  let pose = await findPose(runtime, picture, whole(picture), options, { padding: 1, inside });
  for (let look = 1; look < LOOKS; look++) {
    const box = boxOfNext(pose);
    if (!box) break;
    pose = await findPose(runtime, picture, box, options, { inside });
  }
  return pose;
}

// Return the best pose of each person, best first; as oks_nms in lgmpose/pose/persons.py.
export function eachOnce(poses) {
  const kept = [];
  for (const pose of [...poses].sort((a, b) => b.score - a.score))
    if (kept.every((other) => similarity(pose, other) <= SAME_PERSON)) kept.push(pose);
  return kept;
}

// Object keypoint similarity of two predicted poses; the scale is the mean area of their crops.
function similarity(pose, other) {
  const area = ({ box_xywh: [, , width, height] }) => (PADDING * Math.max(width, height)) ** 2;
  const scale = (area(pose) + area(other)) / 2, sigmas = card.skeleton.oks_sigmas;
  const parts = pose.keypoints.map(([x, y], joint) => {
    const [otherX, otherY] = other.keypoints[joint];
    return Math.exp(-((x - otherX) ** 2 + (y - otherY) ** 2) / (2 * (2 * sigmas[joint]) ** 2 * scale));
  });
  return parts.reduce((sum, part) => sum + part) / parts.length;
}

// Return the box around the joints that were found; null for fewer than two.
export function boxOfNext({ keypoints }) {
  const found = keypoints.filter((point) => point[2] > THRESHOLD);
  return found.length < 2 ? null : boxAround(found);
}

// Return how far one output moves if a square of the crop is replaced by the mean colour, for 8 x 8 squares.
// `place`: {output, channel (or undefined for all), x, y} on the output's map. `step` is called after each run.
export async function measureReach(runtime, crop, options, place, step) {
  const size = sizeOf(options), n = 8, side = size / n, mean = card.mean.map((value) => Math.round(255 * value));
  const read = async (pixels) => {
    const { data, dims } = (await runNetwork(runtime, [pixels], options))[place.output], [, C, h, w] = dims;
    const channels = place.channel === undefined ? Array.from({ length: C }, (_, c) => c) : [place.channel];
    step();
    return channels.map((c) => data[(c * h + place.y) * w + place.x]);
  };
  const before = await read(crop), moved = [];
  for (let square = 0; square < n * n; square++) {
    const pixels = crop.slice(), left = (square % n) * side, top = Math.floor(square / n) * side;
    for (let y = top; y < top + side; y++)
      for (let x = left; x < left + side; x++) pixels.set(mean, 3 * (y * size + x));
    const after = await read(pixels);
    moved.push(Math.hypot(...after.map((value, i) => value - before[i])) / (Math.hypot(...before) || 1));
    await new Promise((resolve) => setTimeout(resolve)); // the page stays usable
  }
  return moved;
}
