// The worklist: cases with what was done to them, flags, and what was decided. Those with flags
// come first; within a case the viewer goes to the slices that changed most.

import { source } from "./data.js";
import { $, make, showMessage, showTemplate } from "./dom.js";

// How often decisions of other readers and tabs are asked for, in ms.
const LOOK_MS = 4000;
// Said to whatever shows a case when another decision on it is known; detail is the case.
export const DECIDED = "ldct-decided";
// Said when the server answers again after it did not.
export const ANSWERED = "ldct-answered";
export const TO_CARRY = "save it as a file in the worklist, and bring that back";
const MEASURING = "measuring…";
const ORDER_MS = 100;
const NOTHING = { slices: [] };
const NO_ANSWER = "The server does not answer: decisions shown here may be out of date.";

export class Worklist {
  cases = [];
  #changes = new Map();
  #silent = false;
  #ordering = null; // rows are put in order again, once for several that were measured
  #pressed = false; // a link is: one that is replaced meanwhile would lead nowhere

  async load() {
    const told = await source.worklist();
    Object.assign(this, told);
    this.label = told.label;
    return told;
  }

  // What is listed, in its order: not decided first, then by flags, then by the largest change.
  listed() {
    const { text, show } = this.chosen ?? { text: "", show: "all" };
    const change = (each) => worstSlices(this.#changes.get(each.case) ?? NOTHING)[0]?.block_hu ?? 0;
    const rank = (each) => [each.decision ? 1 : 0, -each.flags.length, -change(each)];
    return this.cases
      .filter((each) =>
        JSON.stringify([each.name, each.source, each.case, each.patient, each.model, each.flags])
          .toLowerCase()
          .includes(text),
      )
      .filter(
        (each) =>
          ({ all: true, open: !each.decision, flagged: each.flags.length > 0 })[show] ??
          each.decision?.act === show,
      )
      .sort((a, b) => compared(rank(a), rank(b)));
  }

  neighbour(cid, step) {
    const listed = this.listed();
    const at = listed.findIndex((each) => each.case === cid);
    return listed[at + step]?.case;
  }

  replace(row) {
    this.cases = this.cases.map((each) => (each.case === row.case ? row : each));
    document.dispatchEvent(new CustomEvent(DECIDED, { detail: row }));
  }

  case(cid) {
    return this.cases.find((each) => each.case === cid);
  }

  // Decisions that other readers, or other tabs, make while this page is open.
  watch() {
    setInterval(() => document.hidden || this.#look(), LOOK_MS);
    document.addEventListener("visibilitychange", () => document.hidden || this.#look());
  }

  async #look() {
    try {
      for (const [cid, decision] of Object.entries(await source.json("decisions"))) {
        const row = this.case(cid);
        if (row && row.decision?.time !== decision?.time) this.replace({ ...row, decision });
      }
      if (!this.#silent) return;
      this.#silent = false;
      showMessage("");
      document.dispatchEvent(new CustomEvent(ANSWERED));
    } catch {
      // Once over whatever is said, then only where nothing is: a refused decision can be read.
      if (!this.#silent || !$("#said").textContent) showMessage(NO_ANSWER);
      this.#silent = true;
    }
  }

  show() {
    const main = showTemplate("worklist-view");
    const policy =
      this.policy === "accepted"
        ? "Only accepted series are sent to the PACS."
        : "The policy does not ask for acceptance before sending.";
    $("#policy").textContent = policy;
    this.#carry();
    const choose = () => {
      this.chosen = { text: $("#filter").value.toLowerCase(), show: $("#show").value };
      this.#rows(main);
    };
    if (this.chosen) {
      $("#filter").value = this.chosen.text;
      $("#show").value = this.chosen.show;
    }
    $("#filter").addEventListener("input", choose);
    $("#show").addEventListener("change", choose);
    $("tbody", main).addEventListener("pointerdown", () => {
      this.#pressed = true;
      const release = () => {
        this.#pressed = false;
      };
      addEventListener("pointerup", release, { once: true });
      addEventListener("pointercancel", release, { once: true });
    });
    const list = $("#main > .list");
    const again = () => {
      if (list.isConnected) this.#orderSoon(main);
      else document.removeEventListener(DECIDED, again);
    };
    document.addEventListener(DECIDED, again);
    this.#rows(main);
    this.#refused();
  }

  // On a disk: what was decided here, as a file.
  #carry() {
    const { carried } = source;
    const button = $("#carry");
    button.hidden = !carried?.count;
    if (!carried?.count) return;
    const several = carried.count === 1 ? "1 decision" : `${carried.count} decisions`;
    button.textContent = `Save ${several} as a file`;
    button.addEventListener("click", () => {
      const file = new Blob([carried.text()], { type: "application/json" });
      const href = URL.createObjectURL(file);
      make("a", { href, download: "decisions.json" }).click();
      setTimeout(() => URL.revokeObjectURL(href), 1000);
      showMessage("saved: `ldct review decisions DIR decisions.json` takes it in");
    });
  }

  #rows(main) {
    const focused = document.activeElement?.closest?.("tbody a")?.getAttribute("href");
    const rows = this.listed().map((each) => this.#row(each, main));
    const none = make("tr", {}, make("td", { colspan: 7 }, "nothing to show"));
    $("tbody", main).replaceChildren(...(rows.length ? rows : [none]));
    if (focused) $(`tbody a[href="${focused}"]`, main)?.focus();
  }

  // Flags and the largest change say that they are being measured until they are.
  #row(each, main) {
    const open = each.folder && !this.#changes.has(each.case) ? [MEASURING] : [];
    const flags = [...each.flags, ...open].map((flag) => make("li", {}, flag));
    const change = make("td", { class: "n" }, "…");
    this.#measured(each, change, main);
    return make(
      "tr",
      {},
      make("td", {}, make("a", { href: `#case/${each.case}` }, each.name)),
      make("td", {}, each.patient),
      make("td", { class: "n" }, String(each.slices)),
      make(
        "td",
        {},
        each.model.name ? `${each.model.name} ${each.model.version.split(" ")[0]}` : "not derived",
      ),
      make("td", {}, flags.length ? make("ul", { class: "flags" }, ...flags) : "none"),
      change,
      make("td", { class: each.decision?.act }, decisionText(each.decision)),
    );
  }

  async #measured(each, cell, main) {
    const known = this.#changes.has(each.case);
    const found = await this.changes(each.case);
    if (!known && found.done === found.of && cell.isConnected) this.#orderSoon(main);
    const worst = worstSlices(found)[0];
    cell.textContent = worst
      ? `${worst.block_hu} HU in slice ${worst.slice + 1}`
      : found.of
        ? MEASURING
        : "–";
    if (found.done < found.of)
      setTimeout(() => cell.isConnected && this.#measured(each, cell, main), 1000);
  }

  #orderSoon(main) {
    this.#ordering ??= setTimeout(() => {
      this.#ordering = null;
      if (this.#pressed) this.#orderSoon(main);
      else if ($("#main > .list tbody")) this.#rows(main);
    }, ORDER_MS);
  }

  async changes(cid) {
    const kept = this.#changes.get(cid);
    if (kept) return kept;
    const found = await source.changes(cid);
    if (found.done === found.of) {
      this.#changes.set(cid, found);
      const row = this.cases.find((each) => each.case === cid);
      row.flags = [...new Set([...row.flags, ...found.flags])];
    }
    return found;
  }

  #refused() {
    $("#refused").hidden = !this.refused.length;
    const told = ({ file, reason, attribute, value }) =>
      [file, reason, attribute, value].filter(Boolean).join(": ");
    $("#refused ul").replaceChildren(...this.refused.map((row) => make("li", {}, told(row))));
  }
}

// The slices that were measured, those with the most changed block first.
export function worstSlices({ slices }) {
  return slices.filter((row) => row.mean_hu !== null).toSorted((a, b) => b.block_hu - a.block_hu);
}

// The first difference of two lists of numbers.
const compared = (one, other) => one.map((v, k) => v - other[k]).find(Boolean) ?? 0;

export function decisionText(decision) {
  if (!decision) return "open";
  return `${decision.act}ed by ${decision.reader}${decision.reason ? `: ${decision.reason}` : ""}`;
}
