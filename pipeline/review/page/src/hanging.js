// Hanging protocols: which series stand side by side, and in which planes. The one that was chosen
// last is kept in the browser, and a case opens with it where it has these series.

import { LAID_OVER } from "./overlay.js";

const KEPT = "ldct-hanging";
const DIRECTIONS = ["slices", "rows", "columns"];
const SIDE_BY_SIDE = "side by side";
export const THREE_PLANES = "three planes";

// Those that a case can fill, as { name, roles, directions }. blinded: nothing may be subtracted.
export function hangings(series, { blinded }) {
  const names = Object.keys(series).filter((role) => !LAID_OVER.includes(role));
  const difference = series.original && series.denoised && !blinded;
  const pair = difference ? ["original", "denoised"] : names.slice(0, 2);
  const found = [];
  const add = (name, roles, directions = []) => found.push({ name, roles, directions });
  if (names.length > 1) add(SIDE_BY_SIDE, pair);
  if (difference) add("+ difference", [...pair, "difference"]);
  if (series.prior && names.length > 2) add("+ prior", ["prior", ...pair]);
  add("one", [names[0]]);
  add(THREE_PLANES, Array(3).fill(names[0]), DIRECTIONS);
  if (names.length > 2) add("all", [...names, ...(difference ? ["difference"] : [])].slice(0, 4));
  return found;
}

// What a case opens with. Of a blinded one nothing is kept.
export function firstHanging(series, { blinded }) {
  const found = hangings(series, { blinded });
  const last = blinded ? null : kept();
  return found.find(({ name }) => name === last) ?? usualHanging(series, { blinded });
}

export function usualHanging(series, { blinded }) {
  const found = hangings(series, { blinded });
  const pair = blinded || (series.original && series.denoised);
  return found.find(({ name }) => name === (pair ? SIDE_BY_SIDE : "one")) ?? found[0];
}

function kept() {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null; // no storage: as it is usual
  }
}

export function keepHanging(name) {
  try {
    localStorage.setItem(KEPT, name);
  } catch {
    // no storage: for this case alone
  }
}
