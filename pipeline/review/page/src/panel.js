// One panel: the viewer library draws the plane, an SVG over it the texts and the measurements.

import { Enums } from "@cornerstonejs/core";
import { annotations, liesOn } from "./annotations.js";
import { setText } from "./dom.js";
import { faults, imageId, seriesOf } from "./images.js";
import { LAID_OVER, Overlay } from "./overlay.js";
import { PixelMapping, watchPixels } from "./pixels.js";
import { DIFFERENCE_LIMIT_HU, sideOf } from "./planes.js";
import { turnedStack, viewText } from "./turned.js";

// A colour image is drawn as it is through this window.
const AS_IT_IS = { lower: 0, upper: 255 };
export const TITLES = {
  original: "original",
  denoised: "denoised · AI-derived",
  difference: `denoised − original, ±${DIFFERENCE_LIMIT_HU} HU · AI-derived`,
  low_dose: "low dose",
  full_dose: "full dose",
  prior: "prior · earlier study, not registered",
  uncertainty: "uncertainty, one standard deviation",
  left: "left",
  right: "right",
};

// A role's name in a line of figures.
export const named = (role) => (TITLES[role] ?? role).split(" · ")[0].split(",")[0];

export class Panel {
  #stacked = "";
  #newStack = false; // the camera is still that of the stack before
  #wanted = null;
  #busy = null;
  plane = null; // { role, sid, direction, index, stack } of what is on the screen

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
    const { direction, stack, role } = this;
    const sid = this.sid();
    const { index, off } = stack.nearest(position);
    const id = (each, i) => imageId(each, direction, i, slab, view);
    try {
      await this.#image(this.#alike(), sid, index, id);
      this.fault = faults.get(id(sid, index));
      if (off > stack.widest / 2 + 0.05) this.fault = "this series has no plane at this position";
    } catch (error) {
      this.fault = String(error?.message ?? error?.error?.message ?? error);
      this.#stacked = ""; // the library would take the picture before for the one that failed
    }
    this.plane = { role, sid, direction, index, stack };
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
    const { index } = this.stack.nearest(this.state.position);
    return this.stack.position(index, (columns - 1) / 2, (rows - 1) / 2);
  }

  get #drawn() {
    return Boolean(this.plane && this.viewport.getImageData());
  }

  applyCamera() {
    if (!this.#drawn) return;
    const focus = this.state.camera.focus ?? this.centre();
    const { stack, index } = this.plane;
    this.pixels.aim(stack.pixel(index, focus), this.#canvasPixelsPerMm, this.plane);
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
    return this.plane.stack.position(
      this.plane.index,
      ...this.pixels.imageOf(canvasPoint, this.plane),
    );
  }

  // Where a patient position lies on the panel, in CSS pixels from its corner.
  cssOf(position) {
    const { stack, index } = this.plane;
    return this.pixels.cssOf(this.pixels.canvasOf(stack.pixel(index, position), this.plane));
  }

  drawTexts() {
    this.#drawTitle();
    const { index, stack } = this.plane;
    const { slab } = this.state;
    const place = stack.along[index].toFixed(1);
    const thick =
      slab.mm > 0
        ? ` · ${slab.mode === "average" ? "mean" : "MIP"} of ${stack.slab(index, slab.mm).length}`
        : "";
    const where = `${stack.name} ${index + 1} / ${stack.count}`;
    this.#text("where", `${where}${thick}${this.#number()} · ${place} mm`);
    this.#text("level", this.#level() + this.#key());
    this.#text("side-left", sideOf(stack.row_axis.map((v) => -v)));
    this.#text("side-right", sideOf(stack.row_axis));
    this.#text("side-top", sideOf(stack.column_axis.map((v) => -v)));
    this.#text("side-bottom", sideOf(stack.column_axis));
    this.#drawFault();
    // The scale bar stays as it is; each mark is on one plane alone.
    if (this.state.marks.list.length) this.drawMarks();
  }

  #text(name, value) {
    setText(this.element.querySelector(`.${name}`), value);
  }

  // What is on the screen, which may be older than what was asked for.
  #drawTitle() {
    const { role, index } = this.plane;
    const title = TITLES[role] ?? role;
    this.#text("title", title);
    Object.assign(this.element.dataset, { role, index });
    if (this.element.getAttribute("aria-label") !== title)
      this.element.setAttribute("aria-label", title);
  }

  // What cannot be shown leaves nothing on the screen: least of all the picture before it.
  #drawFault() {
    const fault = this.element.querySelector(".fault");
    if (fault.hidden !== !this.fault) fault.hidden = !this.fault;
    setText(fault, this.fault ? `Cannot be shown: ${this.fault}` : "");
    this.element.classList.toggle("blank", Boolean(this.fault));
  }

  #level() {
    const { window, invert, view } = this.state;
    const look =
      this.plane.role === "difference"
        ? "blue darker · orange brighter"
        : `C ${window.centre} W ${window.width}${invert ? " inverted" : ""}`;
    return look + viewText(view);
  }

  // The number that other viewers and reports call the image by.
  #number() {
    const { direction, index } = this.plane;
    const number = direction === "slices" ? this.opened.instance_numbers[index] : null;
    return number === null || number === undefined ? "" : ` · image ${number}`;
  }

  // Saved of the original and the denoised series alone.
  #key() {
    if (!["original", "denoised"].includes(this.plane.role)) return "";
    const isHere = (place) => liesOn(this.plane, { direction: "slices", points: [place] });
    return this.state.keyPlaces.some(isHere) ? " · ★ key image" : "";
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
