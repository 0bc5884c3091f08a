// One panel: the viewer library draws the plane, an SVG over it the texts and the measurements.

import { Enums } from "@cornerstonejs/core";
import { annotations } from "./annotations.js";
import { faults, imageId, seriesOf } from "./images.js";
import { LAID_OVER, Overlay } from "./overlay.js";
import { writeTexts } from "./paneltexts.js";
import { PixelMapping, watchPixels } from "./pixels.js";
import { minus, onPlane, plus } from "./planes.js";
import { PRIOR } from "./prior.js";
import { turnedStack } from "./turned.js";

// A colour image is drawn as it is through this window.
const AS_IT_IS = { lower: 0, upper: 255 };

export class Panel {
  #stacked = "";
  #newStack = false; // the camera is still that of the stack before
  #wanted = null;
  #busy = null;
  plane = null; // { role, sid, direction, index, stack, shift } of what is on the screen

  // direction: the one that it always shows; none where it follows the others.
  constructor(engine, element, id, { role, direction, state }) {
    this.element = element;
    this.role = role;
    this.fixed = direction;
    this.state = state;
    this.canvasHost = element.querySelector(".canvas");
    this.svg = element.querySelector("svg");
    this.overlay = new Overlay(element.querySelector(".overlay"));
    engine.enableElement({
      viewportId: id,
      type: Enums.ViewportType.STACK,
      element: this.canvasHost,
    });
    this.viewport = engine.getViewport(id);
    this.pixels = new PixelMapping(this.viewport, this.canvasHost);
    this.pixels.fitCanvas();
    this.unwatch = watchPixels(this.canvasHost, () => this.#pixelsChanged());
  }

  close() {
    this.unwatch();
  }

  #pixelsChanged() {
    this.pixels.fitCanvas();
    this.state.panels.forEach((panel) => panel.applyCamera());
  }

  // The series behind the role; a difference has the denoised one's places.
  sid(role = this.role) {
    const { series } = this.state;
    if (role !== "difference") return series[role]?.sid;
    return `${series.denoised.sid}-minus-${series.original.sid}`;
  }

  get opened() {
    return seriesOf(this.sid().split("-minus-")[0]);
  }

  get direction() {
    return this.fixed ?? this.state.direction;
  }

  // The planes as they lie on the screen.
  get stack() {
    return turnedStack(this.opened.stacks[this.direction], this.state.view);
  }

  // How far the panel's planes lie from where the state's position is.
  get shift() {
    return this.state.prior.of(this.role);
  }

  // Show the state's position; calls that come while one is drawn are folded into the last.
  show() {
    this.#wanted = true;
    this.#busy ??= this.#drain().finally(() => (this.#busy = null));
    return this.#busy;
  }

  async #drain() {
    while (this.#wanted) {
      this.#wanted = null;
      await this.#draw();
    }
  }

  async #draw() {
    const { position, slab, view } = this.state;
    const { direction, stack, role, shift } = this;
    const sid = this.sid();
    const { index, off } = stack.nearest(plus(position, shift));
    const id = (each, i) => imageId(each, direction, i, slab, view);
    try {
      await this.#image(this.#alike(), sid, index, id);
      this.fault = faults.get(id(sid, index));
      if (off > stack.widest / 2 + 0.05) this.fault = "this series has no plane at this position";
    } catch (error) {
      this.fault = String(error?.message ?? error?.error?.message ?? error);
      this.#stacked = ""; // the library would take the picture before for the one that failed
    }
    this.plane = { role, sid, direction, index, stack, shift };
    if (this.#newStack) this.applyCamera();
    this.#newStack = false;
    this.drawTexts();
    await this.drawOverlay();
  }

  // One image of a stack; a step within the stack that is there already is in place. id: the
  // library's name of an image, by series and number.
  async #image(alike, sid, index, id) {
    const { count } = this.stack;
    const at = alike.indexOf(sid) * count + index;
    const look = this.#look();
    const name = alike.map((each) => id(each, 0)).join();
    if (name === this.#stacked) {
      this.viewport.setProperties(look);
      return this.viewport.setImageIdIndex(at);
    }
    const ids = alike.flatMap((each) => Array.from({ length: count }, (_, i) => id(each, i)));
    this.#stacked = "";
    await this.viewport.setStack(ids, at);
    this.viewport.setProperties(look);
    this.#stacked = name;
    this.#newStack = true;
  }

  async drawOverlay() {
    const { series, overlay } = this.state;
    if (this.plane) await this.overlay.show(this, overlay, series[overlay]);
  }

  // Series whose planes are of one size stay in one stack: a flip between them is then a step
  // in it, in place.
  #alike() {
    const roles = Object.keys(this.state.series).filter((role) => !LAID_OVER.includes(role));
    if (roles.includes("original") && roles.includes("denoised")) roles.push("difference");
    const size = (sid) => {
      const { count, rows, columns, spacing_mm } =
        seriesOf(sid.split("-minus-")[0]).stacks[this.direction];
      return [count, rows, columns, ...spacing_mm].join();
    };
    const own = size(this.sid());
    return roles.map((role) => this.sid(role)).filter((sid) => size(sid) === own);
  }

  // A difference has colours of its own, which no window and no inversion changes.
  #look() {
    if (this.role === "difference") return { voiRange: AS_IT_IS, invert: false };
    const { window, invert } = this.state;
    const [lower, upper] = [window.centre - window.width / 2, window.centre + window.width / 2];
    return { voiRange: { lower, upper }, invert };
  }

  applyWindow() {
    if (!this.plane) return;
    this.viewport.setProperties(this.#look());
    this.viewport.render();
  }

  // Canvas pixels per mm at which all of the picture is seen.
  get #fitting() {
    const { rows, columns, spacing_mm } = this.stack;
    const { width, height } = this.pixels.canvas;
    return Math.min(width / (columns * spacing_mm[1]), height / (rows * spacing_mm[0]));
  }

  // One scale for all panels, in mm, whatever the images' pixels.
  get #canvasPixelsPerMm() {
    const all = this.state.panels.map((panel) => panel.#fitting);
    return Math.min(this.#fitting, ...all) * this.state.camera.zoom;
  }

  centre() {
    const { rows, columns } = this.stack;
    const { index } = this.stack.nearest(plus(this.state.position, this.shift));
    return minus(this.stack.position(index, (columns - 1) / 2, (rows - 1) / 2), this.shift);
  }

  get #drawn() {
    return Boolean(this.plane && this.viewport.getImageData());
  }

  applyCamera() {
    if (!this.#drawn) return;
    const focus = this.state.camera.focus ?? this.centre();
    const { stack, index, shift } = this.plane;
    this.pixels.aim(stack.pixel(index, plus(focus, shift)), this.#canvasPixelsPerMm, this.plane);
    this.viewport.render();
    this.drawMarks();
  }

  // Patient position of the pixel under the cursor; null where nothing is drawn yet.
  positionAt(clientX, clientY) {
    return this.#drawn ? this.#positionOf(this.pixels.canvasPixelAt(clientX, clientY)) : null;
  }

  // Patient position at a point of the page's window, wherever in a pixel it lies.
  pointAt(clientX, clientY) {
    return this.#drawn ? this.#positionOf(this.pixels.canvasPointAt(clientX, clientY)) : null;
  }

  // What comes to the middle when the picture moves by so many CSS pixels.
  middleAfter(dx, dy) {
    if (!this.#drawn) return null;
    const [x, y] = this.pixels.middle;
    const perCss = this.pixels.canvasPixelsPerCssPixel;
    return this.#positionOf([x - dx * perCss, y - dy * perCss]);
  }

  #positionOf(canvasPoint) {
    const { stack, index, shift } = this.plane;
    const place = stack.position(index, ...this.pixels.imageOf(canvasPoint, this.plane));
    return this.#onReference(minus(place, shift));
  }

  // What lies under the cursor on a prior's plane is taken to be on the current series' one.
  #onReference(place) {
    if (this.role !== PRIOR) return place;
    const { series, position } = this.state;
    const stack = seriesOf(Object.values(series)[0].sid).stacks[this.direction];
    return onPlane(place, stack, stack.nearest(position).index);
  }

  // Where a patient position lies on the panel, in CSS pixels from its corner.
  cssOf(position) {
    const { stack, index, shift } = this.plane;
    const pixel = stack.pixel(index, plus(position, shift));
    return this.pixels.cssOf(this.pixels.canvasOf(pixel, this.plane));
  }

  drawTexts() {
    writeTexts(this);
    // The scale bar stays as it is; each mark is on one plane alone.
    if (this.state.marks.list.length || this.state.keyCursor) this.drawMarks();
  }

  // The marks of this plane, the lines of the others, and a scale bar.
  drawMarks() {
    if (!this.plane) return;
    this.svg.replaceChildren(...annotations(this));
    this.overlay.place(this);
  }

  get cssPixelsPerMm() {
    return this.#canvasPixelsPerMm / this.pixels.canvasPixelsPerCssPixel;
  }
}
