// Where the prior's planes lie against the current series': an offset in the patient's mm, which a
// reader sets by scrolling one of the two alone. Nothing is registered.

import { dot } from "./planes.js";

export const PRIOR = "prior";
const NONE = [0, 0, 0];
const LEAST_MM = 0.05;

export class PriorOffset {
  linked = true;
  shift = NONE; // prior's place minus the current one's, LPS mm

  of(role) {
    return role === PRIOR ? this.shift : NONE;
  }

  get shifted() {
    return this.shift.some((mm) => Math.abs(mm) > LEAST_MM);
  }

  // One of the two went so many mm along a stack's normal, the other stayed.
  move(mm, { normal }) {
    this.shift = this.shift.map((v, k) => v + mm * normal[k]);
  }

  reset() {
    this.shift = NONE;
    this.linked = true;
  }

  // As the prior's panel says it, along the planes that are shown.
  text({ normal }) {
    const mm = dot(this.shift, normal);
    const offset = Math.abs(mm) > LEAST_MM ? ` · offset ${mm > 0 ? "+" : "−"}${Math.abs(mm).toFixed(1)} mm` : "";
    return offset + (this.linked ? "" : " · NOT LINKED");
  }
}
