// A crosshair that arrow keys move over the panels and Enter sets points with: all that a mouse
// does on them, by the keyboard.

import { showMessage } from "./dom.js";
import { kindOf, pointsOf, POINTS } from "./drawing.js";
import { dot } from "./planes.js";

const FAR = 10; // pixels, with Shift

export class KeyCursor {
  #set = []; // points of a mark that is not complete
  #drawn = false; // whether that mark is there already

  // tool: gives the name of the one that is chosen.
  constructor(viewer, tool) {
    Object.assign(this, { viewer, tool });
  }

  get on() {
    return Boolean(this.viewer.state.keyCursor);
  }

  start() {
    const { viewer } = this;
    if (!this.on) this.#to(viewer.state.cursor ?? viewer.state.camera.focus ?? viewer.active.centre());
    this.#say();
  }

  // Where it is on the plane that is shown now, which may be another than when it was moved.
  get place() {
    return this.viewer.onPlane(this.viewer.state.keyCursor);
  }

  // By so many pixels as they lie on the screen.
  move(across, down, far) {
    const { row_axis, column_axis, spacing_mm } = this.viewer.seenStack;
    const pixels = far ? FAR : 1;
    const [x, y] = [across * pixels * spacing_mm[1], down * pixels * spacing_mm[0]];
    this.#to(this.place.map((v, k) => v + x * row_axis[k] + y * column_axis[k]));
  }

  // At the centre of the nearest pixel of the picture.
  #to(position) {
    const { viewer } = this;
    const { stack, index, active } = viewer;
    const [column, row] = stack.pixel(index, position);
    const held = (at, count) => Math.max(0, Math.min(count - 1, Math.round(at)));
    const place = stack.position(index, held(column, stack.columns), held(row, stack.rows));
    viewer.state.keyCursor = place;
    const [x, y] = active.cssOf(place);
    const { clientWidth, clientHeight } = active.canvasHost;
    if (x < 0 || y < 0 || x > clientWidth || y > clientHeight) viewer.centreOn(place);
    this.#draw();
    viewer.setCursor(place, active);
    viewer.marksChanged();
  }

  // The mark in the making, as it would be with its next point here.
  #draw() {
    this.#dropStale();
    if (!this.#set.length) return;
    const { viewer } = this;
    const points = pointsOf(this.tool(), this.#set, this.place, viewer.stack);
    if (this.#drawn) return viewer.redrawMark(points);
    this.#drawn = true;
    viewer.addMark(kindOf(this.tool()), points);
  }

  // Planes were changed while it is shown: it goes along.
  follow() {
    if (this.on) this.#to(this.place);
  }

  enter() {
    if (!this.on) return this.start();
    const tool = this.tool();
    if (tool === "crosshair") return this.viewer.moveTo(this.place);
    const wanted = POINTS[tool];
    if (!wanted) return showMessage("choose what to draw first: region, ellipse, distance, angle");
    this.#dropStale();
    this.#set.push(this.place);
    this.#draw();
    if (this.#set.length === wanted) {
      this.#set = [];
      this.#drawn = false;
    }
    this.#say();
  }

  // Leave what is not complete.
  drop() {
    const { viewer } = this;
    if (this.#drawn) viewer.state.marks.undo();
    this.#set = [];
    this.#drawn = false;
    if (viewer.panels.length) viewer.marksChanged();
  }

  // A mark lies on one plane: of another one it is given up.
  #dropStale() {
    if (!this.#set.length) return;
    const { stack, index } = this.viewer;
    const off = stack.along[index] - dot(this.#set[0], stack.normal);
    if (Math.abs(off) > stack.step / 2) this.drop();
  }

  // Off the screen; the first time only the mark that is not complete goes.
  leave() {
    if (!this.on) return;
    if (this.#set.length) {
      this.drop();
      return this.#say();
    }
    this.viewer.state.keyCursor = null;
    this.viewer.setCursor(null);
    this.viewer.marksChanged();
    showMessage("");
  }

  #say() {
    const tool = this.tool();
    const wanted = POINTS[tool];
    const what =
      { crosshair: "Enter shows all planes there", lesion: "Enter marks a lesion there" }[tool] ??
      (wanted
        ? `Enter sets point ${this.#set.length + 1} of ${wanted} of the ${tool}`
        : "HU are shown beside the picture");
    showMessage(`Crosshair: arrows move it, ${what}, Escape takes it away`);
  }
}
