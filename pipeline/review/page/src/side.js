// Beside the panels: which slices to look at, accept or reject, what is known of series and model.

import { source } from "./data.js";
import { colourScale, make, may, reader, showMessage } from "./dom.js";
import { colourOf, UNCERTAINTY_LIMIT_HU, uncertaintyColour } from "./overlay.js";
import { TITLES } from "./paneltexts.js";
import { DECIDED, decisionText, TO_CARRY, worstSlices } from "./worklist.js";

const SHOWN = 8;
const NAMES = {
  StudyDate: "study date",
  StudyDescription: "study",
  CTDIvol: "CTDIvol mGy",
  ImageType: "image type",
  ConvolutionKernel: "kernel",
  KVP: "kVp",
  SliceThickness: "thickness mm",
  XRayTubeCurrent: "mA",
  Exposure: "mAs",
  BodyPartExamined: "body part",
  Manufacturer: "maker",
  ManufacturerModelName: "scanner",
  PatientPosition: "position",
  GantryDetectorTilt: "tilt by its tag",
  LossyImageCompression: "lossy",
  Dose: "dose",
};

// Fill `host` for a case. viewer: gives the open Viewer; next: goes so many cases on.
export function caseSide(host, each, { worklist, viewer, geometry, next }) {
  const worst = make("div", { class: "worst" });
  host.replaceChildren(
    make("h3", {}, `Case ${each.name}, patient ${each.patient}`),
    make("p", { id: "essentials" }, essentials(each)),
    each.flags.length
      ? make("ul", { class: "flags" }, ...each.flags.map((flag) => make("li", {}, flag)))
      : "",
    worst,
    each.folder ? decisionForm(each, worklist, next) : "",
    modelFacts(each.model),
    each.series.labels ? legend(each.series.labels.facts.names) : "",
    each.series.uncertainty ? uncertaintyScale() : "",
    ...Object.entries(each.series)
      .filter(([role]) => role !== "labels")
      .map(([role, series]) => seriesFacts(role, series, geometry(series.sid))),
  );
  fillWorst(worst, each, worklist, viewer);
}

// What a reader looks for first: of the original, or of what there is.
function essentials({ source: from, series }) {
  const { StudyDate, StudyDescription, ConvolutionKernel, SliceThickness, CTDIvol } =
    Object.values(series)[0].facts;
  return [
    StudyDate && dateText(StudyDate),
    StudyDescription,
    ConvolutionKernel && `kernel ${ConvolutionKernel}`,
    SliceThickness && `${Number(SliceThickness)} mm`,
    CTDIvol && `CTDIvol ${Number(Number(CTDIvol).toFixed(2))} mGy`,
    from && `source series ${from}`,
  ]
    .filter(Boolean)
    .join(" · ");
}

// DICOM's YYYYMMDD; anything else as it is.
const dateText = (date) => date.replace(/^(\d{4})(\d\d)(\d\d)$/, "$1-$2-$3");

async function fillWorst(host, each, worklist, viewer) {
  const found = await worklist.changes(each.case);
  if (!found.of || !host.isConnected) return;
  const buttons = worstSlices(found)
    .slice(0, SHOWN)
    .map(({ slice, mean_hu, sd_hu, block_hu }) =>
      make(
        "button",
        {
          type: "button",
          title: `mean ${mean_hu} HU, SD ${sd_hu} HU`,
          onclick: () => viewer().goToSlice(slice),
        },
        `${slice + 1}: ${block_hu}`,
      ),
    );
  const more = found.done < found.of ? ` (${found.done} of ${found.of} measured)` : "";
  host.replaceChildren(make("h3", {}, `Changed most, slice: HU${more}`), ...buttons);
  if (found.done < found.of) setTimeout(() => fillWorst(host, each, worklist, viewer), 1000);
}

function decisionForm(each, worklist, next) {
  const reason = make("textarea", {
    rows: 2,
    maxlength: 500,
    "aria-label": "Reason",
    placeholder: "reason (a rejection needs one)",
  });
  const shown = make("p");
  const show = ({ decision }) => {
    shown.className = decision?.act ?? "";
    shown.textContent = decisionText(decision);
  };
  const timeOf = ({ decision }) => decision?.time ?? "";
  const now = worklist.case(each.case) ?? each;
  show(now);
  // The decision that the reader saw. Another one that comes while the case is open is shown, but
  // may come just before a button is pressed: the server refuses then, and the next press counts.
  let seen = timeOf(now);
  const decided = ({ detail }) => {
    if (!shown.isConnected) return document.removeEventListener(DECIDED, decided);
    if (detail.case !== each.case) return;
    show(detail);
    if (timeOf(detail) !== seen) showMessage(`Meanwhile ${decisionText(detail.decision)}`);
  };
  document.addEventListener(DECIDED, decided);
  const decide = async (verdict) => {
    if (!reader()) return showMessage("write your name first, top right");
    const known = (row) => {
      seen = timeOf(row);
      worklist.replace(row);
    };
    try {
      const body = { reader: reader(), verdict, reason: reason.value, seen };
      known(await source.decide(each.case, body));
      showMessage(source.writable ? `${verdict}ed` : `${verdict}ed; ${TO_CARRY}`);
    } catch (error) {
      if (error.case) known(error.case);
      showMessage(`NOT ${verdict}ed: ${error.message}`);
    }
  };
  const button = (verdict, text) =>
    make("button", { type: "button", id: verdict, onclick: () => decide(verdict) }, text);
  const mayDecide = may("releaser");
  return make(
    "section",
    { "aria-label": "Decision" },
    make("h3", {}, "Decision"),
    shown,
    mayDecide ? reason : make("p", { class: "told" }, "Accepting and rejecting needs the role releaser."),
    make(
      "div",
      { class: "buttons" },
      ...(mayDecide ? [button("accept", "Accept"), button("reject", "Reject")] : []),
      make("button", { type: "button", onclick: () => next(1) }, "Next case"),
    ),
  );
}

function legend(names) {
  const rows = Object.entries(names).map(([label, name]) => {
    const swatch = make("span", { class: "swatch" });
    swatch.style.backgroundColor = `rgb(${colourOf(Number(label))})`;
    return make("li", {}, swatch, name);
  });
  return make(
    "section",
    {},
    make("h3", {}, "Segmentation (L: off, on)"),
    make("ul", { class: "legend" }, ...rows),
  );
}

function uncertaintyScale() {
  const colour = (share) => uncertaintyColour(share * UNCERTAINTY_LIMIT_HU);
  const title = "Uncertainty, one standard deviation (U: on, off)";
  const ends = ["0", `${UNCERTAINTY_LIMIT_HU} HU and more`];
  return make("section", {}, ...colourScale(title, "colours of the uncertainty", colour, ends));
}

function modelFacts(model) {
  if (!model.name) return "";
  return make(
    "section",
    {},
    make("h3", {}, "Model"),
    definitionList({ name: model.name, version: model.version }),
    make("p", { class: "told" }, model.derivation),
  );
}

function seriesFacts(role, series, geometry) {
  const { slices } = geometry.stacks;
  const known = Object.fromEntries(
    Object.entries(series.facts).map(([name, value]) => [
      NAMES[name] ?? name,
      name === "StudyDate" ? dateText(value) : value,
    ]),
  );
  const step =
    slices.step === slices.widest || slices.widest - slices.step < 0.01
      ? slices.step.toFixed(2)
      : `${slices.step.toFixed(2)} to ${slices.widest.toFixed(2)}`;
  const facts = {
    size: `${slices.count} × ${slices.rows} × ${slices.columns}`,
    "pixel mm": slices.spacing_mm.map((mm) => mm.toFixed(3)).join(" × "),
    "slice step mm": slices.count > 1 ? step : "one slice",
    ...(geometry.tilt_degrees > 0.1 ? { "gantry tilt": tiltText(geometry) } : {}),
    ...(geometry.evenly_spaced
      ? {}
      : { "uneven spacing": "planes across are interpolated between slices" }),
    ...(geometry.hu_step === 1 ? {} : { "HU shown in steps of": geometry.hu_step }),
    ...known,
  };
  const warnings = series.warnings.map((warning) => make("li", {}, warning));
  return make(
    "details",
    {},
    make("summary", {}, `Series: ${TITLES[role] ?? role}`),
    definitionList(facts),
    warnings.length ? make("ul", { class: "flags" }, ...warnings) : "",
  );
}

function tiltText({ tilt_degrees }) {
  return `${tilt_degrees}°; planes across are cut upright, slabs of slices run along the table`;
}

function definitionList(facts) {
  return make(
    "dl",
    {},
    ...Object.entries(facts).flatMap(([name, value]) => [
      make("dt", {}, name),
      make("dd", {}, String(value)),
    ]),
  );
}
