// What is written on a panel: what is shown, where, how, and the patient's sides.

import { liesOn } from "./annotations.js";
import { setText } from "./dom.js";
import { DIFFERENCE_LIMIT_HU, sideOf } from "./planes.js";
import { PRIOR } from "./prior.js";
import { viewText } from "./turned.js";

export const TITLES = {
  original: "original",
  denoised: "denoised · AI-derived",
  difference: `denoised − original, ±${DIFFERENCE_LIMIT_HU} HU · AI-derived`,
  low_dose: "low dose",
  full_dose: "full dose",
  prior: "prior · earlier study, not registered",
  uncertainty: "uncertainty, one standard deviation",
  image: "image",
  left: "left",
  right: "right",
};

// A role's name in a line of figures.
export const named = (role) => (TITLES[role] ?? role).split(" · ")[0].split(",")[0];

export function writeTexts(panel) {
  const { stack } = panel.plane;
  writeTitle(panel);
  write(panel, "where", where(panel));
  write(panel, "level", level(panel) + keyImage(panel));
  write(panel, "side-left", sideOf(stack.row_axis.map((v) => -v)));
  write(panel, "side-right", sideOf(stack.row_axis));
  write(panel, "side-top", sideOf(stack.column_axis.map((v) => -v)));
  write(panel, "side-bottom", sideOf(stack.column_axis));
  writeFault(panel);
}

function write(panel, name, value) {
  setText(panel.element.querySelector(`.${name}`), value);
}

// What is on the screen, which may be older than what was asked for.
function writeTitle({ plane, element }) {
  const { role, index } = plane;
  const title = TITLES[role] ?? role;
  setText(element.querySelector(".title"), title);
  Object.assign(element.dataset, { role, index });
  if (element.getAttribute("aria-label") !== title) element.setAttribute("aria-label", title);
}

function where({ plane, state, opened }) {
  const { index, stack, direction } = plane;
  const { slab } = state;
  const thick =
    slab.mm > 0
      ? ` · ${slab.mode === "average" ? "mean" : "MIP"} of ${stack.slab(index, slab.mm).length}`
      : "";
  // The number that other viewers and reports call the image by.
  const number = direction === "slices" ? opened.instance_numbers[index] : null;
  const image = number === null || number === undefined ? "" : ` · image ${number}`;
  const place = stack.along[index].toFixed(1);
  return `${stack.name} ${index + 1} / ${stack.count}${thick}${image} · ${place} mm`;
}

function level({ plane, state }) {
  const { window, invert, view, prior } = state;
  const look =
    plane.role === "difference"
      ? "blue darker · orange brighter"
      : `C ${window.centre} W ${window.width}${invert ? " inverted" : ""}`;
  const offset = plane.role === PRIOR ? prior.text(plane.stack) : "";
  return look + viewText(view) + offset;
}

// Saved of the original and the denoised series alone.
function keyImage({ plane, state }) {
  if (!["original", "denoised"].includes(plane.role)) return "";
  const isHere = (place) => liesOn(plane, { direction: "slices", points: [place] });
  return state.keyPlaces.some(isHere) ? " · ★ key image" : "";
}

// What cannot be shown leaves nothing on the screen: least of all the picture before it.
function writeFault({ element, fault }) {
  const shown = element.querySelector(".fault");
  if (shown.hidden !== !fault) shown.hidden = !fault;
  setText(shown, fault ? `Cannot be shown: ${fault}` : "");
  element.classList.toggle("blank", Boolean(fault));
}
