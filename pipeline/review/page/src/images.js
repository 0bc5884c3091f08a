// Planes as images of the viewer library, made when it asks for them. A name says which:
// ldct:SERIES|DIRECTION|INDEX|SLAB|MODE|VIEW, or ldct:DENOISED-minus-ORIGINAL|... for a difference.

import { cache, imageLoader, metaData, utilities } from "@cornerstonejs/core";
import { Planes, source } from "./data.js";
import { Stack, coloured, difference, isPadding, projected, setPadding } from "./planes.js";
import { reordered, turnedStack, viewName, viewNamed } from "./turned.js";

const IMAGE_CACHE_BYTES = 128 * 1024 * 1024;
// Padding is drawn below any window: black, whatever the preset.
const BELOW_ANY = -8192;

const opened = new Map(); // sid -> { hu_step, stacks }
let planes;

// Register with the viewer library how planes are loaded and where they lie.
export function startImages(worklist) {
  setPadding(worklist.padding);
  planes = new Planes(worklist.chunk);
  cache.setMaxCacheSize(IMAGE_CACHE_BYTES);
  imageLoader.registerImageLoader("ldct", (id) => ({ promise: image(id) }));
  metaData.addProvider(
    (kind, id) => (String(id).startsWith("ldct:") ? moduleOf(kind, id) : undefined),
    10000,
  );
}

// Geometry of a series, as Stacks, asked for once.
export async function openSeries(sid) {
  if (!opened.has(sid)) {
    const facts = await source.geometry(sid);
    const stacks = Object.fromEntries(
      Object.entries(facts.planes).map(([direction, stack]) => [direction, new Stack(stack)]),
    );
    opened.set(sid, { ...facts, stacks });
  }
  return opened.get(sid);
}

export const seriesOf = (sid) => opened.get(sid);

export function imageId(sid, direction, index, slab, view) {
  return `ldct:${sid}|${direction}|${index}|${slab.mm}|${slab.mode}|${viewName(view)}`;
}

function parsed(id) {
  const [sid, direction, index, mm, mode, view] = id.slice("ldct:".length).split("|");
  const parts = sid.split("-minus-");
  const stack = turnedStack(opened.get(parts[0]).stacks[direction], viewNamed(view));
  return { parts, direction, index: Number(index), slab: { mm: Number(mm), mode }, stack };
}

// Numbers of a plane or a slab, and why they cannot be shown if so.
export async function numbersOf(sid, direction, index, slab) {
  const stack = opened.get(sid).stacks[direction];
  const wanted = slab.mm > 0 ? stack.slab(index, slab.mm) : [index];
  const found = await Promise.all(wanted.map((i) => planes.plane(sid, direction, i, stack.size)));
  const fault = found.find((plane) => plane.fault)?.fault;
  return {
    numbers: projected(
      found.map((plane) => plane.numbers),
      slab.mode,
    ),
    fault,
  };
}

// Ask for the chunk around a plane before it is shown.
export function prefetch(sid, direction, index) {
  const stack = opened.get(sid).stacks[direction];
  planes.prefetch(sid, direction, index, stack.count);
}

// Denoised minus original in HU, NaN where either was not measured; or why it cannot be shown.
export async function differenceOf([denoised, original], direction, index, slab) {
  const stack = opened.get(denoised).stacks[direction];
  const other = opened.get(original).stacks[direction];
  const there = other.nearest(stack.origins_mm[index]);
  const [after, before] = await Promise.all([
    numbersOf(denoised, direction, index, slab),
    numbersOf(original, direction, there.index, slab),
  ]);
  const alike = there.off < 0.05 && other.size === stack.size;
  const fault =
    after.fault ?? before.fault ?? (alike ? undefined : "no original slice at this place");
  const steps = [opened.get(original).hu_step, opened.get(denoised).hu_step];
  return { hu: fault ? null : difference(before.numbers, after.numbers, ...steps), fault };
}

export const faults = new Map(); // image name -> why it is blank

async function image(id) {
  const at = parsed(id);
  const isDifference = at.parts.length === 2;
  if (isDifference) {
    const { hu, fault } = await differenceOf(at.parts, at.direction, at.index, at.slab);
    note(id, fault);
    const rgb = hu ? coloured(reordered(hu, at.stack)) : new Uint8ClampedArray(at.stack.size * 3);
    return colourImage(id, at.stack, rgb);
  }
  const { numbers, fault } = await numbersOf(at.parts[0], at.direction, at.index, at.slab);
  note(id, fault);
  return greyImage(id, at.stack, reordered(numbers, at.stack), opened.get(at.parts[0]).hu_step);
}

function note(id, fault) {
  if (fault) faults.set(id, fault);
  else faults.delete(id);
}

function greyImage(id, stack, numbers, huStep) {
  const shown = new Int16Array(numbers.length);
  let low = 32767,
    high = -32767;
  for (let i = 0; i < numbers.length; i++) {
    const value = isPadding(numbers[i]) ? BELOW_ANY / huStep : numbers[i];
    shown[i] = Math.max(value, -32767);
    if (shown[i] < low) low = shown[i];
    if (shown[i] > high) high = shown[i];
  }
  return {
    ...common(id, stack),
    color: false,
    numberOfComponents: 1,
    minPixelValue: low,
    maxPixelValue: high,
    slope: huStep,
    sizeInBytes: shown.byteLength,
    dataType: "Int16Array",
    getPixelData: () => shown,
    voxelManager: voxels(stack, shown, 1),
  };
}

function colourImage(id, stack, rgb) {
  return {
    ...common(id, stack),
    color: true,
    numberOfComponents: 3,
    minPixelValue: 0,
    maxPixelValue: 255,
    slope: 1,
    sizeInBytes: rgb.byteLength,
    dataType: "Uint8Array",
    getPixelData: () => rgb,
    voxelManager: voxels(stack, rgb, 3),
  };
}

function voxels(stack, scalarData, numberOfComponents) {
  const { rows: height, columns: width } = stack;
  return utilities.VoxelManager.createImageVoxelManager({
    width,
    height,
    scalarData,
    numberOfComponents,
  });
}

function common(id, stack) {
  return {
    imageId: id,
    rgba: false,
    rows: stack.rows,
    columns: stack.columns,
    height: stack.rows,
    width: stack.columns,
    rowPixelSpacing: stack.spacing_mm[0],
    columnPixelSpacing: stack.spacing_mm[1],
    intercept: 0,
    windowCenter: 40,
    windowWidth: 400,
    invert: false,
    voiLUTFunction: "LINEAR",
  };
}

function moduleOf(kind, id) {
  const { parts, stack, index } = parsed(id);
  if (kind === "imagePlaneModule") {
    return {
      frameOfReferenceUID: "patient",
      rows: stack.rows,
      columns: stack.columns,
      imageOrientationPatient: [...stack.row_axis, ...stack.column_axis],
      rowCosines: stack.row_axis,
      columnCosines: stack.column_axis,
      imagePositionPatient: stack.origins_mm[index],
      pixelSpacing: stack.spacing_mm,
      rowPixelSpacing: stack.spacing_mm[0],
      columnPixelSpacing: stack.spacing_mm[1],
    };
  }
  if (kind === "imagePixelModule") {
    const colour = parts.length === 2;
    return {
      samplesPerPixel: colour ? 3 : 1,
      photometricInterpretation: colour ? "RGB" : "MONOCHROME2",
      bitsAllocated: colour ? 8 : 16,
      bitsStored: colour ? 8 : 16,
      highBit: colour ? 7 : 15,
      pixelRepresentation: colour ? 0 : 1,
    };
  }
  if (kind === "generalSeriesModule") return { modality: "CT" };
  return undefined;
}
