// What a DICOMweb viewer of Cornerstone3D, such as OHIF, does with a series and a SEG, by its own loaders.
// Called by tests/pacs/test_cornerstone_loaders.py; the server is below the page's own address.

import { adaptersSEG } from "@cornerstonejs/adapters";
import { imageLoader, init, metaData } from "@cornerstonejs/core";
import dicomImageLoader from "@cornerstonejs/dicom-image-loader";

const ROOT = "/dicom-web";

async function start() {
  init();
  dicomImageLoader.init({ maxWebWorkers: 1 });
}

// The image ids of a series, from the server's metadata, sorted by the place along the body axis.
async function imageIds(study, series) {
  const answer = await fetch(`${ROOT}/studies/${study}/series/${series}/metadata`, {
    headers: { Accept: "application/dicom+json" },
  });
  const instances = await answer.json();
  const place = (instance) => instance["00200032"].Value[2];
  instances.sort((one, other) => place(one) - place(other));
  return instances.map((instance) => {
    const uid = instance["00080018"].Value[0];
    const id = `wadors:${location.origin}${ROOT}/studies/${study}/series/${series}/instances/${uid}/frames/1`;
    dicomImageLoader.wadors.metaDataManager.add(id, instance);
    return id;
  });
}

const base64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));

// One image as the viewer has it: HU, and where it says that its pixels lie.
async function loaded(id) {
  const image = await imageLoader.loadAndCacheImage(id);
  const { slope, intercept, preScale } = image;
  const scaled = Boolean(preScale?.scaled);
  const hu = Float32Array.from(image.getPixelData(), (v) => (scaled ? v : v * slope + intercept));
  const plane = metaData.get("imagePlaneModule", id);
  return {
    hu: base64(new Uint8Array(hu.buffer)),
    rows: image.rows,
    columns: image.columns,
    position: Array.from(plane.imagePositionPatient),
    orientation: Array.from(plane.imageOrientationPatient),
    spacing: [plane.rowPixelSpacing, plane.columnPixelSpacing],
    frame: plane.frameOfReferenceUID,
  };
}

async function series(study, uid) {
  const ids = await imageIds(study, uid);
  const images = [];
  for (const id of ids) images.push(await loaded(id));
  return images;
}

// A SEG's labels on the images of the series that it is of: one label map an image.
async function segmentation(study, uid, instance, source) {
  const ids = await imageIds(study, source);
  for (const id of ids) await imageLoader.loadAndCacheImage(id);
  const answer = await fetch(`${ROOT}/studies/${study}/series/${uid}/instances/${instance}`, {
    headers: { Accept: 'multipart/related; type="application/dicom"' },
  });
  const body = new Uint8Array(await answer.arrayBuffer());
  const found = await adaptersSEG.Cornerstone3D.Segmentation.createFromDICOMSegBuffer(
    ids,
    dicomOf(body),
    { metadataProvider: metaData },
  );
  const groups = found.labelMapImages;
  return {
    segments: found.segMetadata.data.filter(Boolean).map((each) => each.SegmentLabel),
    labels: groups[0].map((image) => base64(new Uint8Array(image.getPixelData()))),
  };
}

// The one part of a multipart answer.
function dicomOf(body) {
  const text = new TextDecoder("latin1").decode(body);
  const begin = text.indexOf("\r\n\r\n") + 4;
  const boundary = text.slice(0, text.indexOf("\r\n"));
  return body.slice(begin, text.lastIndexOf(`\r\n${boundary}`)).buffer;
}

globalThis.cornerstone = { start, series, segmentation };
