// A detector: ONNX with the head of YOLOX, or of RTMDet (as LGM-Det), read as by lgmpose/inference/detectors.py.

const PAD = 114, MIN_SCORE = 0.4, NMS_IOU = 0.6, STRIDES = [8, 16, 32];
const RTMDET_MEAN = [103.53, 116.28, 123.675],
  RTMDET_STD = [57.375, 57.12, 58.395]; // BGR

// Return a function picture canvas -> [{box: [x, y, width, height], score}], best first.
export async function openDetector(bytes, runtime) {
  const session = await runtime.openSession(bytes);
  const shape = session.inputMetadata[0].shape;
  if (session.inputNames.length !== 1 || shape.length !== 4 || !shape.slice(2).every(Number.isInteger))
    throw new Error("this is not a detector: it must take one picture (1, 3, H, W) of a fixed size");
  const [height, width] = shape.slice(2), heads = session.outputNames.length;
  if (heads !== 1 && heads !== 3) throw new Error(`a detector has one output (YOLOX) or three (RTMDet), not ${heads}`);
  return async (canvas) => {
    const scale = Math.min(height / canvas.height, width / canvas.width);
    const small = [Math.max(1, Math.round(canvas.width * scale)), Math.max(1, Math.round(canvas.height * scale))];
    const input = letterbox(canvas, small, width, height, heads === 3);
    const outputs = await runtime.run(session, { [session.inputNames[0]]: [input, [1, 3, height, width]] });
    const read = heads === 1 ? yolox : rtmdet, step = [canvas.width / small[0], canvas.height / small[1]];
    const found = read(Object.values(outputs), width, height).filter(({ score }) => score >= MIN_SCORE);
    return withoutDuplicates(
      found
        .map(({ corners: [x1, y1, x2, y2], score }) => {
          const left = Math.max(0, x1 * step[0]), top = Math.max(0, y1 * step[1]);
          const right = Math.min(canvas.width, x2 * step[0]), bottom = Math.min(canvas.height, y2 * step[1]);
          return { box: [left, top, right - left, bottom - top], score };
        })
        .filter(({ box }) => box[2] > 0 && box[3] > 0),
    );
  };
}

function letterbox(canvas, [smallWidth, smallHeight], width, height, normalised) {
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.fillStyle = `rgb(${PAD} ${PAD} ${PAD})`;
  context.fillRect(0, 0, width, height);
  context.drawImage(canvas, 0, 0, smallWidth, smallHeight);
  const { data } = context.getImageData(0, 0, width, height),
    plane = width * height,
    input = new Float32Array(3 * plane);
  for (let c = 0; c < 3; c++)
    for (let i = 0; i < plane; i++) {
      const value = data[4 * i + 2 - c]; // BGR
      input[c * plane + i] = normalised ? (value - RTMDET_MEAN[c]) / RTMDET_STD[c] : value;
    }
  return input;
}

function* gridPoints(width, height) {
  for (const stride of STRIDES)
    for (let y = 0; y < Math.floor(height / stride); y++)
      for (let x = 0; x < Math.floor(width / stride); x++) yield [x * stride, y * stride, stride];
}

function yolox([{ data, dims }], width, height) {
  const found = [], length = dims[2];
  let at = 0;
  for (const [x, y, stride] of gridPoints(width, height)) {
    const [cx, cy] = [data[at] * stride + x, data[at + 1] * stride + y];
    const [w, h] = [Math.exp(data[at + 2]) * stride, Math.exp(data[at + 3]) * stride];
    found.push({ corners: [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], score: data[at + 4] * data[at + 5] });
    at += length;
  }
  return found;
}

function rtmdet(outputs, width, height) {
  const found = [], rows = outputs.sort((a, b) => b.dims[1] - a.dims[1]).flatMap(({ data }) => Array.from(data));
  let at = 0;
  for (const [x, y] of gridPoints(width, height)) {
    const [logit, l, t, r, b] = rows.slice(at, at + 5);
    found.push({ corners: [x - l, y - t, x + r, y + b], score: 1 / (1 + Math.exp(-logit)) });
    at += 5;
  }
  return found;
}

function withoutDuplicates(found) {
  const kept = [];
  for (const one of found.sort((a, b) => b.score - a.score))
    if (kept.every((other) => iou(one.box, other.box) <= NMS_IOU)) kept.push(one);
  return kept;
}

function iou([x, y, w, h], [x2, y2, w2, h2]) {
  const width = Math.min(x + w, x2 + w2) - Math.max(x, x2), height = Math.min(y + h, y2 + h2) - Math.max(y, y2);
  const shared = Math.max(0, width) * Math.max(0, height);
  return shared / (w * h + w2 * h2 - shared);
}
