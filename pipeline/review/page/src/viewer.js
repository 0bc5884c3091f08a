// The viewer of one case, or of one pair of a reader study: linked panels and their state.

import { RenderingEngine } from "@cornerstonejs/core";
import { differenceOf, numbersOf, openSeries, prefetch, seriesOf } from "./images.js";
import { Panel, TITLES } from "./panel.js";
import { ellipsePoints, Marks, moved } from "./marks.js";
import { dot, isPadding, regionFigures } from "./planes.js";

const AHEAD = 12; // planes fetched before they are asked for

let engine;

export class Viewer {
  panels = [];

  constructor(host, series, { roles, onChange }) {
    this.host = host;
    this.onChange = onChange ?? (() => {});
    this.state = {
      series,
      direction: "slices",
      position: [0, 0, 0],
      window: { centre: 40, width: 400 },
      camera: { zoom: 1, focus: null },
      slab: { mm: 0, mode: "mip" },
      invert: false,
      marks: new Marks(),
      cursor: null,
      overlay: "labels", // one of LAID_OVER, or ""
    };
    this.roles = roles;
  }

  async open() {
    const sids = Object.entries(this.state.series).filter(([role]) => role !== "labels");
    await Promise.all(sids.map(([, { sid }]) => openSeries(sid)));
    engine?.destroy();
    engine = new RenderingEngine("review");
    const middle = this.reference.stacks.slices;
    const index = Math.floor(middle.count / 2);
    this.state.position = middle.position(index, (middle.columns - 1) / 2, (middle.rows - 1) / 2);
    this.setRoles(this.roles);
    await this.shown();
  }

  close() {
    this.panels.forEach((panel) => panel.close());
    engine?.destroy();
    engine = undefined;
  }

  get reference() {
    return seriesOf(Object.values(this.state.series)[0].sid);
  }

  get stack() {
    return this.reference.stacks[this.state.direction];
  }

  get index() {
    return this.stack.nearest(this.state.position).index;
  }

  // Lay out a panel for each role.
  setRoles(roles) {
    this.roles = roles;
    this.panels.forEach((panel, k) => {
      panel.close();
      engine.disableElement(`panel-${k}`);
    });
    this.host.replaceChildren(...roles.map(() => panelElement()));
    this.host.dataset.count = roles.length;
    this.panels = roles.map(
      (role, k) => new Panel(engine, this.host.children[k], `panel-${k}`, role, this.state),
    );
    this.panels.forEach((panel) => this.#titled(panel));
    return this.shown();
  }

  setRole(k, role) {
    this.panels[k].role = role;
    this.roles[k] = role;
    this.#titled(this.panels[k]);
    return this.shown();
  }

  #titled(panel) {
    panel.element.querySelector(".title").textContent = TITLES[panel.role] ?? panel.role;
    panel.element.dataset.role = panel.role;
    panel.element.setAttribute("aria-label", TITLES[panel.role] ?? panel.role);
  }

  async shown() {
    await Promise.all(this.panels.map((panel) => panel.show()));
    this.onChange();
    this.#ahead();
  }

  #ahead() {
    const { direction, slab } = this.state;
    const reach = AHEAD + Math.ceil(slab.mm / this.stack.step / 2);
    const index = this.index;
    const sids = new Set(this.panels.flatMap((panel) => panel.sid().split("-minus-")));
    for (const sid of sids) {
      for (const to of [index + reach, index - reach]) prefetch(sid, direction, to);
    }
  }

  // Go to a plane by its number in the first series; the others follow by position.
  goTo(index) {
    const stack = this.stack;
    const held = Math.max(0, Math.min(stack.count - 1, index));
    const along = dot(this.state.position, stack.normal);
    const shift = stack.along[held] - along;
    this.state.position = this.state.position.map((v, k) => v + stack.normal[k] * shift);
    return this.shown();
  }

  scroll(steps) {
    return this.goTo(this.index + steps);
  }

  setWindow(centre, width) {
    this.state.window = { centre: Math.round(centre), width: Math.max(1, Math.round(width)) };
    this.#looksChanged();
  }

  #looksChanged() {
    this.panels.forEach((panel) => {
      panel.applyWindow();
      if (panel.plane) panel.drawTexts();
    });
    this.onChange();
  }

  setDirection(direction) {
    this.state.direction = direction;
    this.state.camera = { zoom: 1, focus: null };
    return this.shown();
  }

  toggleInvert() {
    this.state.invert = !this.state.invert;
    this.#looksChanged();
  }

  setSlab(mm, mode) {
    this.state.slab = { mm, mode };
    return this.shown();
  }

  // Lay labels or uncertainty over the panels, in place of what is there, or take them off.
  toggleOverlay(role) {
    this.state.overlay = this.state.overlay === role ? "" : role;
    return Promise.all(this.panels.map((panel) => panel.drawOverlay()));
  }

  fit() {
    this.state.camera = { zoom: 1, focus: null };
    this.panels.forEach((panel) => panel.applyCamera());
  }

  zoom(factor) {
    const { camera } = this.state;
    camera.zoom = Math.max(0.5, Math.min(20, camera.zoom * factor));
    this.panels.forEach((panel) => panel.applyCamera());
  }

  // Move the picture by so many CSS pixels of a panel.
  pan(panel, dx, dy) {
    this.state.camera.focus = panel.middleAfter(dx, dy);
    this.panels.forEach((each) => each.applyCamera());
  }

  // What lay at one point of the page's window comes to lie at another, enlarged.
  pinch(panel, from, to, factor) {
    const held = panel.pointAt(...from);
    if (!held) return;
    this.zoom(factor);
    const { left, top } = panel.canvasHost.getBoundingClientRect();
    const [x, y] = panel.cssOf(held);
    this.pan(panel, to[0] - left - x, to[1] - top - y);
  }

  // A mark on the plane that is shown, which can be undone.
  addMark(kind, points) {
    this.state.marks.add({ kind, direction: this.state.direction, points });
    this.marksChanged();
  }

  // A round region of so many mm.
  setRegion(centre, radius) {
    this.addMark("region", ellipsePoints(centre, this.stack, radius, radius));
  }

  // Draw the last mark so in place of how it is.
  redrawMark(points) {
    this.state.marks.redraw(points);
    this.marksChanged();
  }

  moveMark(by) {
    const { last } = this.state.marks;
    if (last) this.redrawMark(moved(last, by));
  }

  marksChanged() {
    this.panels.forEach((panel) => panel.drawMarks());
    this.onChange();
  }

  setCursor(position) {
    this.state.cursor = position;
    this.onChange();
  }

  // HU of each panel's image at a position: by role; null beside it or where nothing was measured.
  async valuesAt(position) {
    const found = await this.#planes(this.state.direction, this.state.position);
    return found.map(({ role, hu, stack, index }) => {
      const [column, row] = stack.pixel(index, position).map(Math.round);
      const inside = column >= 0 && row >= 0 && column < stack.columns && row < stack.rows;
      const value = inside && hu ? hu(row * stack.columns + column) : NaN;
      return { role, hu: Number.isNaN(value) ? null : value };
    });
  }

  // What a region holds in each series, on its own plane whatever is shown.
  async regionFigures({ direction, points }) {
    const found = await this.#planes(direction, points[0]);
    return found.map(({ role, hu, stack, index }) =>
      hu ? { role, ...regionFigures(hu, stack, index, points) } : { role, count: 0 },
    );
  }

  // The planes at a position as functions from pixel number to HU, one for each role shown, and
  // always the original and the denoised where there are both, and the uncertainty.
  async #planes(direction, position) {
    const { series, slab } = this.state;
    const roles = new Set(this.roles);
    if (series.original && series.denoised)
      ["original", "denoised", "difference"].forEach((role) => roles.add(role));
    if (series.uncertainty) roles.add("uncertainty");
    const panel = this.panels[0];
    return Promise.all(
      [...roles].map(async (role) => {
        const sids = panel.sid(role).split("-minus-");
        const { stacks, hu_step } = seriesOf(sids[0]);
        const stack = stacks[direction];
        const { index } = stack.nearest(position);
        if (sids.length === 2) {
          const { hu } = await differenceOf(sids, direction, index, slab);
          return { role, stack, index, hu: hu && ((i) => hu[i]) };
        }
        const { numbers, fault } = await numbersOf(sids[0], direction, index, slab);
        const value = (i) => (isPadding(numbers[i]) ? NaN : numbers[i] * hu_step);
        return { role, stack, index, hu: fault ? null : value };
      }),
    );
  }
}

function panelElement() {
  const template = document.getElementById("panel");
  return template.content.firstElementChild.cloneNode(true);
}
