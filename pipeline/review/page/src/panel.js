// One panel: the viewer library draws the plane, an SVG over it the texts and the measurements.

import { Enums } from "@cornerstonejs/core";
import { setText } from "./dom.js";
import { faults, imageId, seriesOf } from "./images.js";
import { outline, sizeText } from "./marks.js";
import { LAID_OVER, Overlay } from "./overlay.js";
import { PixelMapping, watchPixels } from "./pixels.js";
import { DIFFERENCE_LIMIT_HU, dot, minus, sideOf } from "./planes.js";

const SVG = "http://www.w3.org/2000/svg";
// A colour image is drawn as it is through this window.
const AS_IT_IS = { lower: 0, upper: 255 };
const SCALE_BARS_MM = [100, 50, 20, 10, 5, 2];
export const TITLES = {
  original: "original",
  denoised: "denoised · AI-derived",
  difference: `denoised − original, ±${DIFFERENCE_LIMIT_HU} HU · AI-derived`,
  low_dose: "low dose",
  full_dose: "full dose",
  uncertainty: "uncertainty, one standard deviation",
  left: "left",
  right: "right",
};

// A role's name in a line of figures.
export const named = (role) => (TITLES[role] ?? role).split(" · ")[0].split(",")[0];

export class Panel {
  #stacked = "";
  #wanted = null;
  #busy = null;
  plane = null; // { sid, index, stack } of what is on the screen

  constructor(engine, element, id, role, state) {
    this.element = element;
    this.role = role;
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
    this.applyCamera();
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

  get stack() {
    return this.opened.stacks[this.state.direction];
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
    const { direction, position, slab } = this.state;
    const stack = this.stack;
    const sid = this.sid();
    const { index, off } = stack.nearest(position);
    const alike = this.#alike(stack);
    const name = `${alike}|${direction}|${slab.mm}|${slab.mode}`;
    const at = alike.indexOf(sid) * stack.count + index;
    const apart = off > stack.widest / 2 + 0.05;
    try {
      const look = this.#look();
      if (name !== this.#stacked) {
        const ids = alike.flatMap((each) =>
          stack.origins_mm.map((_, i) => imageId(each, direction, i, slab)),
        );
        this.#stacked = "";
        await this.viewport.setStack(ids, at);
        this.viewport.setProperties(look);
        this.plane = { sid, direction, index, stack };
        this.#stacked = name;
        this.applyCamera();
      } else {
        this.viewport.setProperties(look);
        await this.viewport.setImageIdIndex(at);
        this.plane = { sid, direction, index, stack };
      }
      this.fault = faults.get(imageId(sid, direction, index, slab));
      if (apart) this.fault = "this series has no plane at this position";
    } catch (error) {
      this.plane = { sid, direction, index, stack };
      this.fault = String(error?.message ?? error?.error?.message ?? error);
    }
    this.drawTexts();
    await this.drawOverlay();
  }

  async drawOverlay() {
    const { series, overlay } = this.state;
    if (this.plane) await this.overlay.show(this, overlay, series[overlay]);
  }

  // Series whose planes are of one size stay in one stack: a flip between them is then a step
  // in it, in place.
  #alike(stack) {
    const roles = Object.keys(this.state.series).filter((role) => !LAID_OVER.includes(role));
    if (roles.includes("original") && roles.includes("denoised")) roles.push("difference");
    const size = (each) => [each.count, each.rows, each.columns, ...each.spacing_mm].join();
    return roles
      .map((role) => this.sid(role))
      .filter(
        (sid) =>
          size(seriesOf(sid.split("-minus-")[0]).stacks[this.state.direction]) === size(stack),
      );
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

  // Canvas pixels per mm: one scale for all panels, in mm, whatever the images' pixels.
  get #canvasPixelsPerMm() {
    const { rows, columns, spacing_mm } = this.stack;
    const { width, height } = this.pixels.canvas;
    const fitting = Math.min(width / (columns * spacing_mm[1]), height / (rows * spacing_mm[0]));
    return fitting * this.state.camera.zoom;
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
    const { index, stack } = this.plane;
    const { slab, window } = this.state;
    const place = stack.along[index].toFixed(1);
    const thick =
      slab.mm > 0
        ? ` · ${slab.mode === "average" ? "mean" : "MIP"} of ${stack.slab(index, slab.mm).length}`
        : "";
    const text = (name, value) => setText(this.element.querySelector(`.${name}`), value);
    text("where", `${stack.name} ${index + 1} / ${stack.count}${thick}${this.#image()} · ${place} mm`);
    text(
      "level",
      this.role === "difference"
        ? "blue darker · orange brighter"
        : `C ${window.centre} W ${window.width}${this.state.invert ? " inverted" : ""}`,
    );
    text("side-left", sideOf(stack.row_axis.map((v) => -v)));
    text("side-right", sideOf(stack.row_axis));
    text("side-top", sideOf(stack.column_axis.map((v) => -v)));
    text("side-bottom", sideOf(stack.column_axis));
    const fault = this.element.querySelector(".fault");
    if (fault.hidden !== !this.fault) fault.hidden = !this.fault;
    setText(fault, this.fault ? `Cannot be shown: ${this.fault}` : "");
    this.element.dataset.index = index;
    // The scale bar stays as it is; each mark is on one plane alone.
    if (this.state.marks.list.length) this.drawMarks();
  }

  // The number that other viewers and reports call the image by.
  #image() {
    const { direction, index } = this.plane;
    const number = direction === "slices" ? this.opened.instance_numbers[index] : null;
    return number === null || number === undefined ? "" : ` · image ${number}`;
  }

  // The marks of this plane and a scale bar.
  drawMarks() {
    if (!this.plane) return;
    const marks = this.state.marks.list.flatMap((mark, k) =>
      this.#isHere(mark) ? this.#mark(mark, k + 1) : [],
    );
    this.svg.replaceChildren(...marks, ...this.#bar());
    this.overlay.place(this);
  }

  get #cssPixelsPerMm() {
    return this.#canvasPixelsPerMm / this.pixels.canvasPixelsPerCssPixel;
  }

  #isHere({ direction, points }) {
    const { stack, index } = this.plane;
    if (direction !== this.plane.direction) return false;
    const off = dot(minus(points[0], stack.origins_mm[index]), stack.normal);
    return Math.abs(off) < stack.step / 2;
  }

  #mark(mark, number) {
    const places = outline(mark).map((point) => this.cssOf(point));
    const [x, y] = places.at(mark.kind === "region" ? 0 : -1);
    const label = shape("text", { x: x + 8, y, class: "mark-text" });
    label.textContent = `${number}: ${sizeText(mark)}`;
    const line = places.map((place) => place.join()).join(" ");
    return [shape("polyline", { points: line, class: "mark", "data-kind": mark.kind }), label];
  }

  #bar() {
    // The longest that leaves the texts beside it readable.
    const widest = this.canvasHost.clientWidth / 3;
    const mm =
      SCALE_BARS_MM.find((each) => each * this.#cssPixelsPerMm <= widest) ?? SCALE_BARS_MM.at(-1);
    const length = mm * this.#cssPixelsPerMm;
    const y = this.canvasHost.clientHeight - 12;
    const x = this.canvasHost.clientWidth - length - 12;
    const label = shape("text", { x: x + length / 2, y: y - 5, class: "bar-text" });
    label.textContent = `${mm} mm`;
    return [shape("line", { x1: x, y1: y, x2: x + length, y2: y, class: "bar" }), label];
  }
}

function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
