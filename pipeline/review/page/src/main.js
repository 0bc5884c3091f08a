// Where the page begins: the worklist, a case, or the reader study, by what follows the #.

import { init } from "@cornerstonejs/core";
import { CaseView } from "./case.js";
import { source } from "./data.js";
import { $, keepReader, make, reader, showMessage } from "./dom.js";
import { seriesOf, startImages } from "./images.js";
import { caseSide } from "./side.js";
import { Study } from "./study.js";
import { startWheelSetting } from "./wheel.js";
import { Worklist, worstSlices } from "./worklist.js";

const worklist = new Worklist();
let open = null; // the view that must be closed before another opens

async function start() {
  // Drawn by the library's own CPU path: the same pixels everywhere, a graphics card or none.
  init({ rendering: { useCPURendering: true } });
  startImages(await worklist.load());
  keepReader(worklist.me);
  $("#log-out").addEventListener("click", logOut);
  if (source.writable) worklist.watch();
  $("#label").textContent = worklist.label;
  $("#to-report").hidden = !worklist.report || !source.writable;
  $("#to-study").hidden = !source.writable;
  document
    .querySelectorAll("dialog .close")
    .forEach((button) => button.addEventListener("click", () => button.closest("dialog").close()));
  startWheelSetting();
  addEventListener("hashchange", route);
  await route();
}

async function logOut() {
  try {
    await source.logOut();
    location.reload();
  } catch (error) {
    showMessage(`still logged in: ${error.message}`);
  }
}

async function route() {
  const [name, cid] = location.hash.slice(1).split("/");
  open?.close();
  open = null;
  showMessage("");
  const each = worklist.cases.find((row) => row.case === cid);
  try {
    if (name === "case" && each) await openCase(each);
    else if (name === "study") await openStudy();
    else worklist.show();
  } catch (error) {
    showMessage(`cannot be shown: ${error.message}`);
  }
  document.body.dataset.ready = location.hash || "#worklist";
}

async function openCase(each) {
  const go = (step) => {
    const next = worklist.neighbour(each.case, step);
    location.hash = next ? `case/${next}` : "worklist";
  };
  const view = new CaseView(each.series, {
    go,
    cid: each.case,
    changes: async () => worstSlices(await worklist.changes(each.case)),
    side: (host) =>
      caseSide(host, each, { worklist, viewer: () => view.viewer, geometry: seriesOf, next: go }),
  });
  open = view;
  globalThis.ldctView = view; // what tests ask for the state of the viewer
  await view.open();
  if (!source.writable || !reader()) return;
  const failed = (error) => showMessage(error.message);
  source.post(`opened/${each.case}`, { reader: reader() }).catch(failed);
}

async function openStudy() {
  const study = new Study(worklist.criteria);
  open = study;
  await study.open();
}

start().catch((error) => {
  $("#main").replaceChildren(
    make("p", { class: "fault" }, `The page cannot start: ${error.message}`),
  );
});
