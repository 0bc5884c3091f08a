// What an SVG draws over a panel: the marks of its plane, where other panels' planes cut it, and a
// scale bar.

import { outline, sizeText } from "./marks.js";
import { dot, minus, plus } from "./planes.js";

const SVG = "http://www.w3.org/2000/svg";
const ROUNDING_MM = 1e-3;
const SCALE_BARS_MM = [100, 50, 20, 10, 5, 2];

export function annotations(panel) {
  const marks = panel.state.marks.list.flatMap((mark, k) =>
    liesOn(panel.plane, mark) ? drawnMark(panel, mark, k + 1) : [],
  );
  return [...referenceLines(panel), ...marks, ...keyCursor(panel), ...scaleBar(panel)];
}

// Whether the plane that is shown is the nearest to a mark, or a place as { direction, points }. A
// lesion is one point, which lies on planes of all directions.
export function liesOn({ stack, index, direction, shift }, mark) {
  if (mark.direction !== direction && mark.kind !== "lesion") return false;
  const place = plus(mark.points[0], shift);
  const off = Math.abs(dot(place, stack.normal) - stack.along[index]);
  return off < stack.nearest(place).off + ROUNDING_MM && off < stack.widest / 2 + ROUNDING_MM;
}

function drawnLesion(panel, mark, number) {
  const [cx, cy] = panel.cssOf(mark.points[0]);
  const label = shape("text", { x: cx + 12, y: cy - 8, class: "mark-text" });
  label.textContent = `${number}: ${sizeText(mark)}`;
  return [shape("circle", { cx, cy, r: 9, class: "mark", "data-kind": mark.kind }), label];
}

// The crosshair that arrow keys move, open in its middle.
function keyCursor(panel) {
  const { keyCursor: place, direction } = panel.state;
  if (!place || panel.plane?.direction !== direction) return [];
  const [x, y] = panel.cssOf(place);
  const arms = [[0, -1], [0, 1], [-1, 0], [1, 0]].map(([dx, dy]) => ({
    x1: x + 5 * dx,
    y1: y + 5 * dy,
    x2: x + 24 * dx,
    y2: y + 24 * dy,
  }));
  const drawn = (name) => arms.map((arm) => shape("line", { ...arm, class: name }));
  return [...drawn("key-cursor-edge"), ...drawn("key-cursor")];
}

function drawnMark(panel, mark, number) {
  if (mark.kind === "lesion") return drawnLesion(panel, mark, number);
  const places = outline(mark).map((point) => panel.cssOf(point));
  const [x, y] = places.at(mark.kind === "region" ? 0 : -1);
  const label = shape("text", { x: x + 8, y, class: "mark-text" });
  label.textContent = `${number}: ${sizeText(mark)}`;
  const line = places.map((place) => place.join()).join(" ");
  return [shape("polyline", { points: line, class: "mark", "data-kind": mark.kind }), label];
}

function referenceLines(panel) {
  const others = panel.state.panels.filter(
    ({ plane }) => plane && plane.direction !== panel.plane.direction,
  );
  return others.flatMap(({ plane }) => {
    const ends = cut(panel.plane, plane)?.map((place) => panel.cssOf(place));
    if (!ends) return [];
    const [[x1, y1], [x2, y2]] = ends;
    return [shape("line", { x1, y1, x2, y2, class: "cut", "data-of": plane.stack.name })];
  });
}

// Both ends, LPS mm, of the line where another plane cuts the picture of this one; null where it
// does not.
export function cut({ stack, index }, other) {
  const { normal, along } = other.stack;
  const across = dot(stack.row_axis, normal) * stack.spacing_mm[1];
  const down = dot(stack.column_axis, normal) * stack.spacing_mm[0];
  const rest = along[other.index] - dot(stack.origins_mm[index], normal);
  const upright = Math.abs(across) >= Math.abs(down);
  const [steep, flat] = upright ? [across, down] : [down, across];
  if (!steep) return null;
  const [most, reach] = upright ? [stack.columns, stack.rows] : [stack.rows, stack.columns];
  const ends = [-0.5, reach - 0.5].map((at) => [(rest - flat * at) / steep, at]);
  if (ends.some(([at]) => at < -0.5 || at > most - 0.5)) return null;
  return ends.map(([one, two]) => stack.position(index, ...(upright ? [one, two] : [two, one])));
}

function scaleBar(panel) {
  const { clientWidth, clientHeight } = panel.canvasHost;
  // The longest that leaves the texts beside it readable.
  const widest = clientWidth / 3;
  const mm =
    SCALE_BARS_MM.find((each) => each * panel.cssPixelsPerMm <= widest) ?? SCALE_BARS_MM.at(-1);
  const length = mm * panel.cssPixelsPerMm;
  const y = clientHeight - 12;
  const x = clientWidth - length - 12;
  const label = shape("text", { x: x + length / 2, y: y - 5, class: "bar-text" });
  label.textContent = `${mm} mm`;
  return [shape("line", { x1: x, y1: y, x2: x + length, y2: y, class: "bar" }), label];
}

function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
