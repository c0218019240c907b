// From heatmaps to joints, as lgmpose/pose/codecs.py does it. Points are (x, y) in crop pixels.

const STRIDE = 4; // crop pixels per heatmap pixel
const SMALLEST = 1e-10; // argument of DARK's logarithm

// Return {points: [[x, y], ...], scores: [...]} of K maps of h x w, which follow each other in one array.
export function decode(maps, [K, h, w], decoder, sigma) {
  const points = [], scores = [];
  for (let k = 0; k < K; k++) {
    const map = maps.subarray(k * h * w, (k + 1) * h * w);
    let peak = 0;
    for (let i = 1; i < map.length; i++) if (map[i] > map[peak]) peak = i;
    const x = peak % w, y = Math.floor(peak / w);
    const [dx, dy] = DECODERS[decoder](map, h, w, x, y, sigma);
    points.push(map[peak] > 0 ? [STRIDE * (x + dx), STRIDE * (y + dy)] : [0, 0]);
    scores.push(map[peak]);
  }
  return { points, scores };
}

// Each decoder returns how far the joint is from the highest pixel (x, y), in heatmap pixels.
export const DECODERS = {
  argmax: () => [0, 0],

  quarter(map, h, w, x, y) {
    if (x <= 1 || x >= w - 1 || y <= 1 || y >= h - 1) return [0, 0];
    const i = y * w + x;
    return [0.25 * Math.sign(map[i + 1] - map[i - 1]), 0.25 * Math.sign(map[i + w] - map[i - w])];
  },

  // Blur, logarithm, one Newton step towards the top of the parabola.
  dark(map, h, w, x, y, sigma) {
    if (x < 2 || x > w - 3 || y < 2 || y > h - 3) return [0, 0];
    const taps = gaussianTaps(sigma);
    const near = [];
    for (let dy = -2; dy <= 2; dy++)
      for (let dx = -2; dx <= 2; dx++) near.push(blurredAt(map, h, w, x + dx, y + dy, taps));
    // The blurred map is scaled to its old maximum. That matters only where the logarithm is cut off.
    const scale = Math.min(...near) <= SMALLEST ? map[y * w + x] / highestBlurred(map, h, w, taps) : 1;
    const log = (dx, dy) => Math.log(Math.max(scale * near[(dy + 2) * 5 + dx + 2], SMALLEST));
    const gx = (log(1, 0) - log(-1, 0)) / 2, gy = (log(0, 1) - log(0, -1)) / 2;
    const xx = (log(2, 0) - 2 * log(0, 0) + log(-2, 0)) / 4, yy = (log(0, 2) - 2 * log(0, 0) + log(0, -2)) / 4;
    const xy = (log(1, 1) - log(1, -1) - log(-1, 1) + log(-1, -1)) / 4;
    const determinant = xx * yy - xy * xy;
    if (!(determinant > 1e-12 && xx < 0)) return [0, 0]; // not a peak
    const limit = (step) => Math.min(1, Math.max(-1, step));
    return [limit(-(yy * gx - xy * gy) / determinant), limit(-(xx * gy - xy * gx) / determinant)];
  },
};

function gaussianTaps(sigma) {
  const reach = Math.floor(2.75 * sigma), width = 0.3 * (reach - 1) + 0.8;
  const taps = Array.from({ length: 2 * reach + 1 }, (_, i) => Math.exp(-((i - reach) ** 2) / (2 * width ** 2)));
  const sum = taps.reduce((a, b) => a + b);
  return taps.map((tap) => tap / sum);
}

function blurredAt(map, h, w, x, y, taps) {
  const reach = (taps.length - 1) / 2;
  let sum = 0;
  for (let j = Math.max(0, y - reach); j <= Math.min(h - 1, y + reach); j++) {
    let row = 0;
    for (let i = Math.max(0, x - reach); i <= Math.min(w - 1, x + reach); i++)
      row += map[j * w + i] * taps[i - x + reach];
    sum += row * taps[j - y + reach];
  }
  return sum;
}

function highestBlurred(map, h, w, taps) {
  let highest = -Infinity;
  for (let y = 0; y < h; y++) for (let x = 0; x < w; x++) highest = Math.max(highest, blurredAt(map, h, w, x, y, taps));
  return highest > 0 ? highest : map[0] || 1;
}

// Return the person's score: the mean of the joint scores above 0.2, times the box's score.
export function personScore(scores, boxScore) {
  const counted = scores.filter((score) => score > 0.2);
  return counted.length ? (boxScore * counted.reduce((a, b) => a + b)) / counted.length : 0;
}
