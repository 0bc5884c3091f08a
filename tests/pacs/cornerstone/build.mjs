// Bundles the page's script and the loader's own worker beside it.
import { build } from "esbuild";

const options = {
  bundle: true,
  format: "esm",
  target: "es2022",
  outdir: process.argv[2],
  loader: { ".wasm": "file" },
  // Named for Node alone, and called by nothing here.
  alias: { xmlbuilder2: "./nothing.js", fs: "./nothing.js", path: "./nothing.js" },
  logLevel: "error",
};
await build({ ...options, entryPoints: { loaders: "loaders.js" } });
await build({
  ...options,
  entryPoints: {
    decodeImageFrameWorker:
      "node_modules/@cornerstonejs/dicom-image-loader/dist/esm/decodeImageFrameWorker.js",
  },
});
