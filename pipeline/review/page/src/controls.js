// Mouse, touch, wheel and keys on the panels.

import { ellipsePoints, stepsOf } from "./marks.js";
import { downwards } from "./wheel.js";

const RADIUS_MM = 10;
const PAGE = 10;
const DIRECTIONS = { a: "axial", c: "coronal", s: "sagittal" };

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
const DRAWING = TOOLS.slice(4);

export class Controls {
  tool = "window";
  chosen = false; // whether a reader chose the tool
  #fingers = new Map();
  #began = null;
  #wheel = 0;

  constructor(viewer, actions) {
    this.viewer = viewer;
    this.actions = actions;
    const { host } = viewer;
    this.#listening = new AbortController();
    const { signal } = this.#listening;
    host.addEventListener("pointerdown", (event) => this.#down(event), { signal });
    host.addEventListener("pointermove", (event) => this.#move(event), { signal });
    host.addEventListener("pointerup", (event) => this.#up(event), { signal });
    host.addEventListener("pointercancel", (event) => this.#up(event), { signal });
    host.addEventListener("pointerleave", () => this.#left(), { signal });
    host.addEventListener("contextmenu", (event) => event.preventDefault(), { signal });
    host.addEventListener("wheel", (event) => this.#wheeled(event), { signal, passive: false });
    document.addEventListener("keydown", (event) => this.#key(event), { signal });
  }

  #listening;

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
      index: this.viewer.index,
      tool: this.#toolOf(event),
      last: [event.clientX, event.clientY],
      grip: this.#grip(),
    };
    if (this.#began.tool === "crosshair" && this.#began.position)
      this.viewer.moveTo(this.#began.position);
  }

  // Fingers scroll until a tool is chosen.
  #toolOf(event) {
    if (event.pointerType === "touch" && !this.chosen) this.actions.tool("scroll");
    return ["", "pan", "zoom"][event.button] || this.tool;
  }

  #left() {
    this.#hovered = null;
    this.viewer.setCursor(null);
  }

  #move(event) {
    const panel = this.#panel(event) ?? this.#began?.panel;
    this.#hovered = panel ?? null;
    if (panel) this.viewer.setCursor(panel.positionAt(event.clientX, event.clientY), panel);
    if (!this.#fingers.has(event.pointerId)) return;
    this.#fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (this.#fingers.size === 2) this.#pinched();
    else this.#dragged(event);
  }

  #hovered = null; // the panel below the cursor

  #dragged(event) {
    const { panel, at, last, window, index, tool, position } = this.#began;
    const [dx, dy] = [event.clientX - at[0], event.clientY - at[1]];
    const here = panel.positionAt(event.clientX, event.clientY);
    const { viewer } = this;
    if (tool === "window") viewer.setWindow(window.centre + dy, window.width + 2 * dx);
    if (tool === "scroll") viewer.goTo(index + Math.round(dy / 6) * downwards(viewer.stack));
    if (tool === "zoom") viewer.zoom(1.01 ** (last[1] - event.clientY));
    if (tool === "pan") viewer.pan(panel, event.clientX - last[0], event.clientY - last[1]);
    if (tool === "crosshair" && here) viewer.moveTo(here);
    if (DRAWING.includes(tool)) this.#drawn(position, here);
    this.#began.last = [event.clientX, event.clientY];
  }

  // The first movement makes a mark, the others change it. An angle takes two drags: one leg to
  // its apex, then the end of the other leg.
  #drawn(from, to) {
    const { viewer } = this;
    const { marks } = viewer.state;
    const { tool } = this.#began;
    const points = () => this.#pointsOf(tool, from, to);
    if (!this.#began.drawing) {
      this.#began.drawing = true;
      this.#began.second = tool === "angle" && Boolean(marks.last) && marks.last === this.#openAngle;
      if (!this.#began.second) viewer.addMark(tool === "ellipse" ? "region" : tool, points());
    }
    viewer.redrawMark(this.#began.second ? [...marks.last.points.slice(0, 2), to] : points());
    this.#openAngle = tool === "angle" ? marks.last : null;
  }

  #openAngle = null; // the last mark, while its second leg is not drawn

  #pointsOf(tool, from, to) {
    if (tool === "distance") return [from, to];
    if (tool === "angle") return [from, to, to];
    const { stack } = this.viewer;
    const [across, down] = stepsOf(from, to, stack);
    const radius = Math.hypot(across, down);
    return tool === "region"
      ? ellipsePoints(from, stack, radius, radius)
      : ellipsePoints(from, stack, across, down);
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
    if (this.#began?.second) this.#openAngle = null;
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
    const planes = Math.abs(steps) <= 2 ? Math.sign(steps) : steps;
    this.viewer.scroll(planes * downwards(this.viewer.stack));
  }

  #key(event) {
    if (event.target.closest?.("input, select, textarea, dialog")) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key; // Caps Lock or not
    const commanded = event.ctrlKey || event.metaKey;
    if (commanded && key !== "z") return;
    const act = commanded ? this.actions.undo : this.#actionOf(event, key);
    if (!act) return;
    event.preventDefault();
    act();
  }

  #actionOf(event, key) {
    const { viewer, actions } = this;
    if (event.altKey || event.shiftKey) {
      const moved = this.#shifted(event);
      if (moved) return moved;
    }
    if (event.key === " " && event.target.closest?.("button, a, summary")) return null;
    if (/^[1-9]$/.test(event.key)) return () => actions.preset(Number(event.key));
    if (key in DIRECTIONS) return () => actions.direction(DIRECTIONS[key]);
    const steps = {
      ArrowUp: -1,
      ArrowLeft: -1,
      ArrowDown: 1,
      ArrowRight: 1,
      PageUp: -PAGE,
      PageDown: PAGE,
      Home: -Infinity,
      End: Infinity,
    }[event.key];
    if (steps) return () => viewer.goTo(viewer.index + steps * downwards(viewer.stack));
    return {
      " ": actions.flip,
      o: actions.original,
      d: actions.difference,
      m: actions.slab,
      n: actions.next,
      p: actions.previous,
      w: actions.worst,
      "?": actions.help,
      l: () => viewer.toggleOverlay("labels"),
      u: () => viewer.toggleOverlay("uncertainty"),
      f: () => viewer.fit(),
      "+": () => viewer.zoom(1.25),
      "=": () => viewer.zoom(1.25),
      "-": () => viewer.zoom(0.8),
      r: () => this.#regionHere(),
      i: actions.invert,
      t: actions.turn,
      h: actions.mirror,
      v: actions.upsideDown,
      e: actions.keyImage,
      b: actions.threePlanes,
      k: actions.cine,
      y: actions.accept,
      x: actions.reject,
      Backspace: actions.undo,
      Delete: () => this.#removeLast(),
      Escape: () => this.#clear(),
    }[key];
  }

  // Shift and an arrow move the picture, Alt and an arrow the region.
  #shifted(event) {
    const [dx, dy] =
      { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ??
      [];
    if (dx === undefined) return null;
    const { viewer } = this;
    if (event.shiftKey) return () => viewer.pan(viewer.active, -40 * dx, -40 * dy);
    if (!viewer.state.marks.last) return null;
    const { row_axis, column_axis } = viewer.seenStack;
    return () => viewer.moveMark([0, 1, 2].map((k) => 2 * (dx * row_axis[k] + dy * column_axis[k])));
  }

  #regionHere() {
    const { viewer } = this;
    if (this.#hovered) viewer.activate(this.#hovered);
    const { cursor, camera } = viewer.state;
    viewer.setRegion(cursor ?? camera.focus ?? viewer.active.centre(), RADIUS_MM);
  }

  #clear() {
    this.viewer.state.marks.replace([]);
    this.viewer.marksChanged();
  }

  #removeLast() {
    const { marks } = this.viewer.state;
    marks.remove(marks.list.length - 1);
    this.viewer.marksChanged();
  }
}
