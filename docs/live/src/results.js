// The joints as JSON and CSV, in the formats of `lgmpose predict`. Video frames are found at `scale`; results are not.

const { card } = PAGE;
const COLUMNS = ["file", "frame", "time_s", "person", "person_score", "joint", "x", "y", "score"];

const round = (value, digits) => Number(value.toFixed(digits));
const asPerson = ({ box_xywh, score, keypoints }, scale = 1) => ({
  box_xywh: box_xywh.map((value) => round(value / scale, 2)),
  score: round(score, 4),
  keypoints: keypoints.map(([x, y, s]) => [round(x / scale, 2), round(y / scale, 2), round(s, 4)]),
});

// Return the content of the JSON file. `frames` is null for a picture.
export function asJson({ picture, name, people, frames }) {
  const { joint_names, edges } = card.skeleton;
  const scale = frames?.at(-1)?.scale ?? 1;
  const head = {
    version: 1,
    [frames ? "video" : "image"]: name,
    path: name,
    image_hw: [picture.height, picture.width].map((side) => Math.round(side / scale)),
    skeleton: { name: card.skeleton.name, joint_names, edges },
    weights: card.weights,
  };
  if (!frames) return { ...head, people: people.map((pose) => asPerson(pose)) };
  const asFrame = ({ frame, time_s, scale, people }) => ({
    frame,
    time_s: round(time_s, 4),
    people: people.map((pose) => asPerson(pose, scale)),
  });
  return { ...head, frames: frames.map(asFrame) };
}

// Return the text of the CSV file from the content of the JSON file: one row for each frame, person and joint.
export function asCsv({ image, video, frames, people, skeleton }) {
  const file = `"${(image ?? video).replaceAll('"', '""')}"`;
  const rows = [COLUMNS];
  for (const { frame, time_s, people: persons } of frames ?? [{ frame: 0, time_s: "", people }])
    persons.forEach(({ score, keypoints }, n) =>
      keypoints.forEach((point, k) =>
        rows.push([file, frame, time_s, n + 1, score, skeleton.joint_names[k], ...point]),
      ),
    );
  return "\ufeff" + rows.map((row) => row.join() + "\r\n").join("");
}
