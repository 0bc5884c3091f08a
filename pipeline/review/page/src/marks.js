// Measurements: regions, distances and angles, each on one plane of the patient; and lesions that a
// reader of a study marks. No screen here.
//
// A mark is { kind, direction, points }, points in LPS mm. Of a region: the centre and the ends of
// both half axes of its ellipse; of a distance: its ends; of an angle: its apex second. A lesion has
// one, and a rating once it has been given.

import { dot, minus, norm } from "./planes.js";

export const SMALLEST_MM = 1;
const OUTLINE_POINTS = 72;

export class Marks {
  list = [];
  version = 0; // another number after every change
  #before = []; // lists, for undo

  // One more, which can be undone.
  add(mark) {
    this.#change([...this.list, mark]);
  }

  // What was kept from before, which is not undone.
  start(list) {
    this.list = list;
    this.version++;
  }

  // The last one, while it is being drawn or moved: what it was is not kept.
  redraw(points) {
    this.list = [...this.list.slice(0, -1), { ...this.list.at(-1), points }];
    this.version++;
  }

  get last() {
    return this.list.at(-1);
  }

  remove(k) {
    if (k in this.list) this.#change(this.list.filter((_, other) => other !== k));
  }

  // What is there becomes these marks, which can be undone.
  replace(list) {
    if (list.length || this.list.length) this.#change(list);
  }

  undo() {
    if (!this.#before.length) return false;
    this.list = this.#before.pop();
    this.version++;
    return true;
  }

  #change(list) {
    this.#before.push(this.list);
    this.list = list;
    this.version++;
  }
}

const along = (from, axis, mm) => from.map((v, k) => v + mm * axis[k]);

// Half axes along the rows and columns of a plane.
export function ellipsePoints(centre, { row_axis, column_axis }, acrossMm, downMm) {
  const held = [acrossMm, downMm].map((mm) => Math.max(SMALLEST_MM, Math.abs(mm)));
  return [centre, along(centre, row_axis, held[0]), along(centre, column_axis, held[1])];
}

// How far it is from one place to another along the rows and columns of a plane, mm.
export function stepsOf(from, to, { row_axis, column_axis }) {
  const apart = minus(to, from);
  return [dot(apart, row_axis), dot(apart, column_axis)];
}

export function moved({ points }, by) {
  return points.map((point) => point.map((v, k) => v + by[k]));
}

// Its own size: mm, degrees, or square mm.
export function sizeOf({ kind, points }) {
  if (kind === "distance") return norm(minus(points[1], points[0]));
  if (kind === "angle") return angleOf(points);
  return Math.PI * norm(minus(points[1], points[0])) * norm(minus(points[2], points[0]));
}

function angleOf([one, apex, other]) {
  const [a, b] = [minus(one, apex), minus(other, apex)];
  const cosine = dot(a, b) / (norm(a) * norm(b));
  return Number.isNaN(cosine) ? 0 : (Math.acos(Math.max(-1, Math.min(1, cosine))) * 180) / Math.PI;
}

export function sizeText(mark) {
  if (mark.kind === "lesion") return mark.rating ? `rated ${mark.rating}` : "not rated";
  const size = sizeOf(mark);
  if (mark.kind === "distance") return `${size.toFixed(1)} mm`;
  if (mark.kind === "angle") return `${size.toFixed(1)}°`;
  return `${size.toFixed(0)} mm²`;
}

// What is drawn: the line of a distance or an angle, the outline of a region.
export function outline({ kind, points }) {
  if (kind !== "region") return points;
  const [centre, one, other] = points;
  const [a, b] = [minus(one, centre), minus(other, centre)];
  return Array.from({ length: OUTLINE_POINTS + 1 }, (_, k) => {
    const turn = (2 * Math.PI * k) / OUTLINE_POINTS;
    return centre.map((v, j) => v + Math.cos(turn) * a[j] + Math.sin(turn) * b[j]);
  });
}
