// How a case hangs: the buttons of its hanging protocols, and the keys that swap what panels show.

import { $, clearMessage, READING, showMessage } from "./dom.js";
import { firstHanging, hangings, keepHanging, THREE_PLANES, usualHanging } from "./hanging.js";
import { button } from "./toolbar.js";

export class Hung {
  #before = null; // the roles that the original took the place of
  #flat = null; // to which three planes lead back

  // blinded: of a reader study, where nothing is kept and nothing subtracted.
  constructor(series, { blinded }) {
    Object.assign(this, { series, blinded });
    this.first = firstHanging(series, this);
    this.name = this.first.name;
  }

  // viewer: opened with the first hanging.
  start(viewer) {
    this.viewer = viewer;
    const buttons = hangings(this.series, this).map((hanging) => {
      const choose = () => {
        if (!this.blinded) keepHanging(hanging.name);
        return this.#show(hanging);
      };
      return button(hanging.name, choose, hanging.name);
    });
    $("#layout").replaceChildren(...buttons);
  }

  async #show(hanging) {
    const { name, roles, directions } = hanging;
    this.#before = null;
    this.name = name;
    if (!directions.length) this.#flat = hanging;
    if (directions.length) showMessage(READING);
    await this.viewer.setRoles([...roles], directions);
    clearMessage(READING);
  }

  #named(name) {
    return hangings(this.series, this).find((each) => each.name === name);
  }

  toggleThreePlanes() {
    const three = Boolean(this.viewer.panels[0].fixed);
    const flat = this.#flat ?? usualHanging(this.series, this);
    return this.#show(three ? flat : this.#named(THREE_PLANES));
  }

  // The first panel that shows one of the two shows the other; all of three planes do.
  flip() {
    const [one, other] = this.blinded ? ["left", "right"] : ["original", "denoised"];
    const { roles, panels } = this.viewer;
    const found = roles.findIndex((role) => role === one || role === other);
    if (found < 0 || !this.series[one] || !this.series[other]) return;
    const to = roles[found] === one ? other : one;
    const flipped = panels[found].fixed ? roles.map((_, k) => k) : [found];
    flipped.forEach((k) => this.viewer.setRole(k, to));
  }

  onlyOriginal() {
    if (!this.series.original) return showMessage("the original is not here");
    if (this.#before) {
      const before = this.#before;
      this.#before = null;
      return before.forEach((role, k) => this.viewer.setRole(k, role));
    }
    this.#before = [...this.viewer.roles];
    this.#before.forEach((_, k) => this.viewer.setRole(k, "original"));
  }

  toggleDifference() {
    if (this.blinded || !this.series.original || !this.series.denoised) return;
    const { roles } = this.viewer;
    this.#show(this.#named(roles.includes("difference") ? "side by side" : "+ difference"));
  }
}
