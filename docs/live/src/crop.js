// From a person's box to the network's input and back, as lgmpose/pose/geometry.py and inference/predictor.py do it.
// Boxes are [x, y, width, height] in picture pixels. A picture is {data, width, height}: RGBA bytes.

export const PADDING = 1.25;
const BOX_MARGIN = 0.05;

// Return {scale, tx, ty}: crop point = scale * picture point + (tx, ty). Crops are squares of `size` pixels.
export function cropTransform([x, y, width, height], size, padding = PADDING) {
  const scale = size / (padding * Math.max(width, height));
  return { scale, tx: size / 2 - scale * (x + width / 2), ty: size / 2 - scale * (y + height / 2) };
}

export const toPicture = ({ scale, tx, ty }, [x, y]) => [(x - tx) / scale, (y - ty) / scale];

// Return the box around joints, with a margin for hands, feet and hair.
export function boxAround(points) {
  const xs = points.map((point) => point[0]), ys = points.map((point) => point[1]);
  const x = Math.min(...xs), y = Math.min(...ys), width = Math.max(...xs) - x, height = Math.max(...ys) - y;
  const margin = BOX_MARGIN * Math.max(width, height, 1);
  return [x - margin, y - margin, width + 2 * margin, height + 2 * margin];
}

// Return the crop as RGB bytes, size x size, bilinear, black outside. Large persons are averaged down first.
export function cropPicture(picture, transform, size) {
  const factor = Math.floor(1 / transform.scale), from = factor < 2 ? picture : averaged(picture, factor);
  const { data, width, height } = from, crop = new Uint8ClampedArray(size * size * 3);
  const places = (t, step) => {
    // The centre of pixel i is at i, in the picture and in the averaged one. OpenCV inverts the matrix and rounds it.
    const scale = transform.scale * step, inverse = Math.fround(1 / scale);
    const offset = Math.fround(-(t + (transform.scale * (step - 1)) / 2) / scale);
    return Array.from({ length: size }, (_, i) => Math.fround(inverse * i + offset));
  };
  const columns = places(transform.tx, picture.width / width), rows = places(transform.ty, picture.height / height);
  const pixel = (x, y, c) => (x < 0 || y < 0 || x >= width || y >= height ? 0 : data[(y * width + x) * 4 + c]);
  const between = (a, b, share) => Math.fround(share * Math.fround(b - a) + a);
  let out = 0;
  for (const y of rows)
    for (const x of columns) {
      const x0 = Math.floor(x), y0 = Math.floor(y);
      for (let c = 0; c < 3; c++) {
        const top = between(pixel(x0, y0, c), pixel(x0 + 1, y0, c), x - x0);
        const bottom = between(pixel(x0, y0 + 1, c), pixel(x0 + 1, y0 + 1, c), x - x0);
        crop[out++] = between(top, bottom, y - y0); // the array rounds
      }
    }
  return crop;
}

// Return the picture with its sides divided by `factor`: each pixel is the mean of the area that it covers.
function averaged(picture, factor) {
  picture.averages ??= new Map();
  if (!picture.averages.has(factor)) {
    const width = Math.max(1, Math.floor(picture.width / factor)),
      height = Math.max(1, Math.floor(picture.height / factor));
    const columns = areaWeights(picture.width, width), rows = areaWeights(picture.height, height);
    const data = new Uint8ClampedArray(width * height * 4);
    const isHalf = picture.width === 2 * width && picture.height === 2 * height;
    const nudge = isHalf ? 1e-6 : 0; // here OpenCV rounds halves up
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        const sum = [0, 0, 0];
        for (const [j, wy] of rows[y])
          for (let c = 0; c < 3; c++) {
            let row = 0;
            for (const [i, wx] of columns[x])
              row = Math.fround(row + Math.fround(wx * picture.data[(j * picture.width + i) * 4 + c]));
            sum[c] = Math.fround(sum[c] + Math.fround(wy * row));
          }
        data.set(sum.map((value) => value + nudge), (y * width + x) * 4); // the array rounds
      }
    picture.averages.set(factor, { data, width, height });
  }
  return picture.averages.get(factor);
}

// Return for each new pixel the old pixels that it covers, with their shares: OpenCV's INTER_AREA.
function areaWeights(from, to) {
  const step = from / to;
  return Array.from({ length: to }, (_, n) => {
    const start = n * step, end = Math.min(from, start + step), cells = [];
    for (let i = Math.floor(start); i < Math.min(from, Math.ceil(end)); i++) {
      const share = Math.min(i + 1, end) - Math.max(i, start);
      if (share > 1e-3) cells.push([i, Math.fround(share / (end - start))]);
    }
    return cells;
  });
}

// Return the network's input, 3 planes of numbers around 0, of a crop's RGB bytes.
export function normalise(crop, { mean, std }) {
  const pixels = crop.length / 3, input = new Float32Array(crop.length);
  for (let c = 0; c < 3; c++)
    for (let i = 0; i < pixels; i++) input[c * pixels + i] = (crop[3 * i + c] / 255 - mean[c]) / std[c];
  return input;
}
