// Every row that needs nothing but this checkout; see docs/benchmarks.md. `npm run bench` builds, then runs this. With names of parts as
// arguments it measures those and writes nothing.
import { measureAdapters } from './adapters.mjs';
import { measureBatch } from './batch.mjs';
import { measureCheckpoints } from './checkpoints.mjs';
import { measureDtypes, measurePortable } from './dtypes.mjs';
import { measureLookups } from './lookup.mjs';
import { describeMachine, heading } from './machine.mjs';
import { measureMerge } from './merge.mjs';
import { measureOpening } from './open.mjs';
import { measureOptimizers } from './optimizers.mjs';
import { measurePhysical } from './physical.mjs';
import { runParts } from './parts.mjs';
import { Report } from './report.mjs';
import { measureMemory, measureSources } from './sources.mjs';
import { measureSteps } from './step.mjs';
import { measureTfjs } from './tfjs.mjs';
import { measureThreads } from './threads.mjs';
import { measureUnpooled } from './unpooled.mjs';
import { measureWaiting } from './waiting.mjs';

const parts = {
  opening: measureOpening, // first: resident memory is smallest, and so most telling
  physical: measurePhysical,
  lookup: measureLookups,
  threads: measureThreads,
  unpooled: measureUnpooled,
  dtypes: measureDtypes,
  portable: measurePortable,
  steps: measureSteps,
  optimizers: measureOptimizers,
  adapters: measureAdapters,
  merge: measureMerge,
  sources: measureSources,
  memory: measureMemory,
  tfjs: measureTfjs,
  waiting: measureWaiting,
  checkpoints: measureCheckpoints,
  batch: measureBatch,
};
const begun = performance.now();
const machine = describeMachine();
for (const [name, value] of machine) console.log(`${name.padEnd(12)} ${value}`);
const report = new Report();
const { whole } = await runParts(parts, report);
if (whole) report.write('bench', heading('npm run bench', machine, begun));
