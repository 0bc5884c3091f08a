// Mouse, touch and wheel on the panels.

import { kindOf, pointsOf, POINTS } from "./drawing.js";

export const TOOLS = [
  "window",
  "scroll",
  "pan",
  "crosshair",
  "region",
  "ellipse",
  "distance",
  "angle",
];
const LESION = "lesion";
const STILL_PX = 4; // a finger or a mouse that moves less has clicked

export class Controls {
  tool = "window";
  chosen = false; // whether a reader chose the tool
  #fingers = new Map();
  #began = null;
  #wheel = 0;
  #openAngle = null; // the last mark, while its second leg is not drawn
  #listening = new AbortController();

  constructor(viewer, actions) {
    this.viewer = viewer;
    this.actions = actions;
    const { host } = viewer;
    const { signal } = this.#listening;
    host.addEventListener("pointerdown", (event) => this.#down(event), { signal });
    host.addEventListener("pointermove", (event) => this.#move(event), { signal });
    host.addEventListener("pointerup", (event) => this.#up(event), { signal });
    host.addEventListener("pointercancel", (event) => this.#up(event), { signal });
    host.addEventListener("pointerleave", () => this.#left(), { signal });
    host.addEventListener("contextmenu", (event) => event.preventDefault(), { signal });
    host.addEventListener("wheel", (event) => this.#wheeled(event), { signal, passive: false });
  }

  close() {
    this.#listening.abort();
  }

  #panel(event) {
    const element = event.target.closest?.(".panel");
    return this.viewer.panels.find((panel) => panel.element === element);
  }

  #down(event) {
    const panel = this.#panel(event);
    if (!panel || event.target.closest("select, button")) return;
    event.preventDefault();
    document.activeElement?.blur?.();
    this.actions.leaveCursor();
    this.viewer.activate(panel);
    panel.canvasHost.setPointerCapture?.(event.pointerId);
    this.#fingers.set(event.pointerId, [event.clientX, event.clientY]);
    const { window, camera } = this.viewer.state;
    this.#began = {
      panel,
      at: [event.clientX, event.clientY],
      position: panel.positionAt(event.clientX, event.clientY),
      window: { ...window },
      focus: camera.focus,
      index: this.viewer.steps.index,
      tool: this.#toolOf(event),
      last: [event.clientX, event.clientY],
      grip: this.#grip(),
      still: this.#fingers.size === 1,
    };
    if (this.#began.tool === "crosshair" && this.#began.position)
      this.viewer.moveTo(this.#began.position);
  }

  // Fingers scroll until a tool is chosen.
  #toolOf(event) {
    if (event.pointerType === "touch" && !this.chosen && this.tool !== LESION)
      this.actions.tool("scroll");
    return ["", "pan", "zoom"][event.button] || this.tool;
  }

  #left() {
    this.viewer.hovered = null;
    this.viewer.setCursor(null);
  }

  #move(event) {
    const panel = this.#panel(event) ?? this.#began?.panel;
    this.viewer.hovered = panel ?? null;
    if (panel) this.viewer.setCursor(panel.positionAt(event.clientX, event.clientY), panel);
    if (!this.#fingers.has(event.pointerId)) return;
    this.#fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (this.#fingers.size === 2) this.#pinched();
    else this.#dragged(event);
  }

  #dragged(event) {
    const { panel, at, last, window, index, tool, position, still } = this.#began;
    const [dx, dy] = [event.clientX - at[0], event.clientY - at[1]];
    this.#began.still = still && Math.hypot(dx, dy) < STILL_PX;
    if (tool === LESION && this.#began.still) return;
    const here = panel.positionAt(event.clientX, event.clientY);
    const { viewer } = this;
    const acts = tool === LESION ? (event.pointerType === "touch" ? "scroll" : "window") : tool;
    if (acts === "window") viewer.setWindow(window.centre + dy, window.width + 2 * dx);
    if (acts === "scroll") viewer.steps.to(index + Math.round(dy / 6) * viewer.steps.downwards);
    if (acts === "zoom") viewer.zoom(1.01 ** (last[1] - event.clientY));
    if (acts === "pan") viewer.pan(panel, event.clientX - last[0], event.clientY - last[1]);
    if (acts === "crosshair" && here) viewer.moveTo(here);
    if (POINTS[acts]) this.#drawn(position, here);
    this.#began.last = [event.clientX, event.clientY];
  }

  // The first movement makes a mark, the others change it. An angle takes two drags: one leg to
  // its apex, then the end of the other leg.
  #drawn(from, to) {
    const { viewer } = this;
    const { marks } = viewer.state;
    const { tool } = this.#began;
    const points = (set) => pointsOf(tool, set, to, viewer.stack);
    if (!this.#began.drawing) {
      this.#began.drawing = true;
      this.#began.second = tool === "angle" && Boolean(marks.last) && marks.last === this.#openAngle;
      if (!this.#began.second) viewer.addMark(kindOf(tool), points([from]));
    }
    viewer.redrawMark(points(this.#began.second ? marks.last.points.slice(0, 2) : [from]));
    this.#openAngle = tool === "angle" ? marks.last : null;
  }

  // Where two fingers are: the point between them, and how far they are apart, in CSS pixels.
  #grip() {
    const [one, other] = [...this.#fingers.values()];
    if (!other) return null;
    const middle = [(one[0] + other[0]) / 2, (one[1] + other[1]) / 2];
    return { middle, spread: Math.hypot(one[0] - other[0], one[1] - other[1]) };
  }

  // Two fingers: apart to enlarge, together along to move.
  #pinched() {
    const { panel, grip: last } = this.#began;
    const grip = this.#grip();
    this.viewer.pinch(panel, last.middle, grip.middle, grip.spread / last.spread);
    this.#began.grip = grip;
  }

  #up(event) {
    this.#fingers.delete(event.pointerId);
    const { tool, still, position, second } = this.#began ?? {};
    if (event.type === "pointerup" && tool === LESION && still && position)
      this.viewer.addMark(LESION, [position]);
    if (second) this.#openAngle = null;
    if (!this.#fingers.size) this.#began = null;
  }

  #wheeled(event) {
    const panel = this.#panel(event);
    if (!panel) return;
    event.preventDefault();
    this.viewer.activate(panel);
    if (event.ctrlKey) return this.viewer.zoom(1.002 ** -event.deltaY);
    // A wheel's notch is about 100, a touch pad sends many small ones.
    this.#wheel += event.deltaMode === 1 ? event.deltaY * 33 : event.deltaY;
    const steps = Math.trunc(this.#wheel / 50);
    this.#wheel -= steps * 50;
    if (!steps) return;
    this.viewer.steps.by(Math.abs(steps) <= 2 ? Math.sign(steps) : steps);
  }
}
