// What was measured in a case: its figures beside the panels, undo, and saving as a DICOM SR.

import { source } from "./data.js";
import { make, reader, showMessage } from "./dom.js";
import { sizeText } from "./marks.js";
import { named } from "./paneltexts.js";

const COLUMNS = [
  ["mean", "mean", 2],
  ["SD", "sd", 2],
  ["min", "least", 0],
  ["max", "most", 0],
  ["pixels", "count", 0],
];

export class Measurements {
  #shown = "";

  // cid: of the case that they are saved with; none in a reader study.
  constructor(viewer, cid) {
    Object.assign(this, { viewer, cid });
  }

  get marks() {
    return this.viewer.state.marks;
  }

  // Take up what was saved last.
  async load() {
    if (!this.#canSave) return;
    try {
      const { marks } = await source.json(`marks/${this.cid}`);
      marks.forEach(({ kind, points }) => this.marks.add({ kind, points, direction: "slices" }));
      if (marks.length) this.viewer.marksChanged();
    } catch (error) {
      showMessage(`saved measurements cannot be shown: ${error.message}`);
    }
  }

  get #canSave() {
    return Boolean(this.cid && source.writable);
  }

  undo() {
    if (!this.marks.undo()) showMessage("nothing to undo");
    this.viewer.marksChanged();
  }

  async save() {
    if (!reader()) return showMessage("write your name first, top right");
    const marks = this.marks.list
      .filter(({ direction }) => direction === "slices")
      .map(({ kind, points }) => ({ kind, points }));
    const left = this.marks.list.length - marks.length;
    try {
      const { file } = await source.post(`marks/${this.cid}`, { reader: reader(), marks });
      const across = left ? `; ${left} on planes across the slices are not in it` : "";
      showMessage(`saved as ${file}${across}`);
    } catch (error) {
      showMessage(`NOT SAVED: ${error.message}`);
    }
  }

  // Fill `host`, unless it shows just this already.
  async show(host) {
    if (!host) return;
    const { list, version } = this.marks;
    const { roles, state } = this.viewer;
    const what = [version, ...roles, state.slab.mm, state.slab.mode].join();
    if (what === this.#shown) return;
    const parts = await Promise.all(list.map((mark, k) => this.#part(mark, k)));
    this.#shown = what;
    host.replaceChildren(...parts, list.length && this.#canSave ? this.#saveButton() : "");
  }

  #saveButton() {
    return make(
      "button",
      { type: "button", id: "save-marks", onclick: () => this.save() },
      "Save measurements (DICOM SR)",
    );
  }

  async #part(mark, k) {
    const rows = mark.kind === "region" ? await this.viewer.regionFigures(mark) : [];
    const excluded = Math.max(0, ...rows.map((row) => row.excluded ?? 0));
    return make(
      "section",
      { class: "mark-figures", "aria-label": `${mark.kind} ${k + 1}` },
      make("h3", {}, `${k + 1}: ${mark.kind}, ${sizeText(mark)} `, ...this.#buttons(mark, k)),
      rows.length ? table(rows) : "",
      excluded ? make("p", { class: "told" }, `${excluded} pixels without measurement left out`) : "",
    );
  }

  #buttons(mark, k) {
    const show = async () => {
      const { viewer } = this;
      if (viewer.state.direction !== mark.direction) await viewer.setDirection(mark.direction);
      await viewer.goTo(viewer.stack.nearest(mark.points[0]).index);
    };
    const remove = () => {
      this.marks.remove(k);
      this.viewer.marksChanged();
    };
    return [
      make("button", { type: "button", onclick: show, "aria-label": `show mark ${k + 1}` }, "show"),
      make("button", { type: "button", onclick: remove, "aria-label": `remove mark ${k + 1}` }, "×"),
    ];
  }
}

// Narrow enough for a column.
const nameOf = (role) => (role === "difference" ? role : named(role));

function table(rows) {
  const head = ["HU", ...COLUMNS.map(([title]) => title)].map((text) => make("th", {}, text));
  const cells = (row) =>
    COLUMNS.map(([, name, digits]) =>
      make(
        "td",
        { class: "n", [`data-${name}`]: String(row[name]) },
        name === "count" || row.count ? row[name].toFixed(digits) : "–",
      ),
    );
  const body = rows.map((row) =>
    make("tr", { "data-role": row.role }, make("th", {}, nameOf(row.role)), ...cells(row)),
  );
  return make("table", {}, make("tr", {}, ...head), ...body);
}
