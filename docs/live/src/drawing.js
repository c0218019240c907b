// Drawings on canvases: skeletons, maps of numbers as colours, and pictures of squares.

// As in lgmpose/inference/drawing.py: the person's right is warm, the left cool, the middle yellow.
const COLOURS = { right: ["#ff9632", "#eb3c3c"], left: ["#46c8ff", "#4669f5"], middle: "#ffdc46" };
const VIRIDIS = [
  [68, 1, 84],
  [59, 82, 139],
  [33, 145, 140],
  [94, 201, 98],
  [253, 231, 37],
];

function colourOf(a, b) {
  const side = a.split("_")[0], leg = /knee|ankle/.test(a + b) || (a === b && /hip/.test(a));
  if (side !== b.split("_")[0] || !(side in COLOURS)) return COLOURS.middle;
  return !leg && a !== b && /shoulder|hip/.test(a) && /shoulder|hip/.test(b)
    ? COLOURS.middle
    : COLOURS[side][Number(leg)];
}

// Draw one person; joints with a score below the threshold are left out. `longer`: longer side of the picture.
export function drawPose(context, { keypoints }, { joint_names: names, edges }, longer, threshold = 0.2) {
  const shown = keypoints.filter((point) => point[2] >= threshold);
  if (!shown.length) return;
  const extent = Math.max(
    ...[0, 1].map((axis) => Math.max(...shown.map((p) => p[axis])) - Math.min(...shown.map((p) => p[axis]))),
  );
  const radius = Math.min(0.012 * longer + 1, Math.max(1, 0.002 * longer, 0.011 * extent));
  context.lineCap = "round";
  for (const [a, b] of edges) {
    const [p, q] = [keypoints[a], keypoints[b]];
    if (p[2] < threshold || q[2] < threshold) continue;
    for (const [width, colour] of [
      [2.3 * radius, "#191923"],
      [1.6 * radius, colourOf(names[a], names[b])],
    ]) {
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.beginPath();
      context.moveTo(p[0], p[1]);
      context.lineTo(q[0], q[1]);
      context.stroke();
    }
  }
  keypoints.forEach(([x, y, score], joint) => {
    if (score < threshold) return;
    const rings = [
      [1.7, "#191923"],
      [1.35, colourOf(names[joint], names[joint])],
      [0.7, "#fff"],
    ];
    for (const [size, colour] of rings) {
      context.fillStyle = colour;
      context.beginPath();
      context.arc(x, y, size * radius, 0, 2 * Math.PI);
      context.fill();
    }
  });
}

export function drawBox(context, [x, y, width, height]) {
  const line = context.canvas.width / context.getTransform().a / 300;
  for (const [factor, colour] of [
    [2.5, "#0008"],
    [1, "#fff"],
  ]) {
    context.lineWidth = factor * line;
    context.strokeStyle = colour;
    context.strokeRect(x, y, width, height);
  }
}

function viridis(value) {
  const place = 4 * Math.min(1, Math.max(0, value)), i = Math.min(3, Math.floor(place));
  return VIRIDIS[i].map((from, c) => from + (place - i) * (VIRIDIS[i + 1][c] - from));
}

// Draw one map (h, w) of numbers; low is dark blue, high is yellow.
export function drawMap(canvas, map, [h, w], low, high) {
  Object.assign(canvas, { width: w, height: h });
  canvas.getContext("2d").putImageData(mapImage(map, [h, w], low, high), 0, 0);
}

function mapImage(map, [h, w], low, high) {
  const image = new ImageData(w, h), range = high > low ? high - low : 1;
  for (let i = 0; i < h * w; i++) image.data.set([...viridis((map[i] - low) / range), 255], 4 * i);
  return image;
}

export const lowest = (map) => map.reduce((a, b) => Math.min(a, b), Infinity);
export const highest = (map) => map.reduce((a, b) => Math.max(a, b), -Infinity);

// Return one channel of an output (1, C, h, w) of the network.
export const channelOf = ({ data, dims: [, , h, w] }, c) => data.subarray(c * h * w, (c + 1) * h * w);

// Draw all channels of an output as tiles, each on its own scale.
export function drawChannels(canvas, output) {
  const [, C, h, w] = output.dims;
  const tile = Math.max(w + 1, 44); // screen pixels, at least
  const columns = Math.max(4, Math.min(C, Math.floor(canvas.parentElement.clientWidth / tile))),
    rows = Math.ceil(C / columns);
  Object.assign(canvas, { width: columns * (w + 1) - 1, height: rows * (h + 1) - 1 });
  const context = canvas.getContext("2d");
  for (let c = 0; c < C; c++) {
    const map = channelOf(output, c), image = mapImage(map, [h, w], lowest(map), highest(map));
    context.putImageData(image, (c % columns) * (w + 1), Math.floor(c / columns) * (h + 1));
  }
}

// Draw a crop (RGB bytes, size x size); with values for n x n squares, colour them, and rule LARM's patches.
export function drawSquares(canvas, crop, size, values, mark) {
  const scale = 3, n = values ? Math.sqrt(values.length) : 8, side = (scale * size) / n;
  const small = new OffscreenCanvas(size, size), image = new ImageData(size, size);
  for (let i = 0; i < size * size; i++) image.data.set([crop[3 * i], crop[3 * i + 1], crop[3 * i + 2], 255], 4 * i);
  small.getContext("2d").putImageData(image, 0, 0);
  Object.assign(canvas, { width: scale * size, height: scale * size });
  const context = canvas.getContext("2d"), most = values ? highest(values) : 0;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  values?.forEach((value, i) => {
    const [r, g, b] = viridis(Math.sqrt(value / (most || 1)));
    context.fillStyle = value > 0 ? `rgb(${r} ${g} ${b} / 0.72)` : "rgb(0 0 0 / 0.85)";
    context.fillRect((i % n) * side, Math.floor(i / n) * side, side, side);
  });
  context.strokeStyle = "#fff9";
  context.lineWidth = 1;
  for (let at = 0; at <= canvas.width; at += 32 * scale) {
    context.strokeRect(at, 0, 0, canvas.height);
    context.strokeRect(0, at, canvas.width, 0);
  }
  const [x, y] = mark.map((place) => scale * place), ring = 5 * scale;
  for (const [width, colour] of [
    [7, "#000"],
    [3, "#fff"],
  ]) {
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.beginPath();
    context.arc(x, y, ring, 0, 2 * Math.PI);
    context.stroke();
  }
}
