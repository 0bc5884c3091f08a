// Which way the wheel, the arrows and dragging go through the planes: a setting of the browser.

import { $ } from "./dom.js";
import { dot, minus } from "./planes.js";

const KEPT = "ldct-wheel";
// Where down leads, in DICOM's LPS axes: to the feet, to the back, to the patient's left.
const DOWN = { axial: [0, 0, -1], coronal: [0, 1, 0], sagittal: [1, 0, 0] };
const TURNED = "turned";

let turned = kept() === TURNED;

function kept() {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null; // no storage: as it is usual
  }
}

// 1 where one down is the plane with the next number in this stack, -1 where it is the one before.
export function downwards(stack) {
  const along = dot(minus(stack.origins_mm.at(-1), stack.origins_mm[0]), DOWN[stack.name]);
  return along < 0 === turned ? 1 : -1;
}

// The setting, in the list of keys.
export function startWheelSetting() {
  const select = $("#wheel");
  select.value = turned ? TURNED : "usual";
  select.addEventListener("change", () => {
    turned = select.value === TURNED;
    try {
      localStorage.setItem(KEPT, select.value);
    } catch {
      // no storage: until the page is closed
    }
  });
}
