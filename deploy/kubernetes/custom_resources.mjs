// Judges custom resources by the types and validators of the npm packages @kubernetes-models/*.
//   node custom_resources.mjs NODE_MODULES < resources.json
// The validators know values (types, ranges, enums, patterns) but ignore fields that do not exist; TypeScript finds
// those, as surplus properties of literals. Prints one line of JSON for each fault: {index, message}.
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

const PACKAGES = {
  "cert-manager.io": "cert-manager",
  "gateway.networking.k8s.io": "gateway-api",
  "keda.sh": "keda",
  "monitoring.coreos.com": "prometheus-operator",
};

const modules = process.argv[2];
const resources = JSON.parse(readFileSync(0, "utf-8"));
const report = (index, message) => console.log(JSON.stringify({ index, message }));

function moduleOf({ apiVersion, kind }) {
  const [group] = apiVersion.split("/");
  const name = PACKAGES[group];
  const specifier = `@kubernetes-models/${name}/${apiVersion}/${kind}`;
  return name && existsSync(join(modules, `${specifier}.js`)) ? specifier : null;
}

const known = [];
for (const [index, resource] of resources.entries()) {
  const specifier = moduleOf(resource);
  if (specifier) known.push({ index, resource, specifier });
  else report(index, `there is no schema of ${resource.apiVersion} ${resource.kind}`);
}

for (const { index, resource, specifier } of known) {
  const module = await import(pathToFileURL(join(modules, `${specifier}.js`)));
  try {
    new module[resource.kind](resource).validate();
  } catch (error) {
    report(index, error.message);
  }
}

const ts = (await import(pathToFileURL(join(modules, "typescript/lib/typescript.js")))).default;
const literals = known.map(
  ({ resource, specifier }, line) =>
    `export const r${line}: import("${specifier}").I${resource.kind} = ${JSON.stringify(resource)};`,
);
const file = join(dirname(modules), "resources.ts");
const options = {
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  noEmit: true,
  skipLibCheck: true,
  strict: true,
  types: [],
};
const host = ts.createCompilerHost(options);
const { fileExists, getSourceFile } = host;
host.fileExists = (name) => name === file || fileExists(name);
host.getSourceFile = (name, ...rest) =>
  name === file ? ts.createSourceFile(name, literals.join("\n"), ...rest) : getSourceFile(name, ...rest);
const program = ts.createProgram([file], options, host);
for (const { messageText, start } of ts.getPreEmitDiagnostics(program)) {
  const message = ts.flattenDiagnosticMessageText(messageText, " ");
  const line = start === undefined ? 0 : literals.join("\n").slice(0, start).split("\n").length - 1;
  report(known[line]?.index ?? 0, message);
}
