// What the points that a reader sets make of each drawing tool, by dragging or by the keyboard.

import { ellipsePoints, stepsOf } from "./marks.js";

// How many points each takes.
export const POINTS = { region: 2, ellipse: 2, distance: 2, angle: 3, lesion: 1 };

export const kindOf = (tool) => (tool === "ellipse" ? "region" : tool);

// A mark's points, by those that are set and where the cursor is. An angle's apex is its second.
export function pointsOf(tool, set, here, stack) {
  if (tool === "lesion") return [here];
  if (tool === "distance") return [set[0], here];
  if (tool === "angle") return [set[0], set[1] ?? here, here];
  const [across, down] = stepsOf(set[0], here, stack);
  const radius = Math.hypot(across, down);
  return tool === "region"
    ? ellipsePoints(set[0], stack, radius, radius)
    : ellipsePoints(set[0], stack, across, down);
}
