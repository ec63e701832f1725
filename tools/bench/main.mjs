// Every row that needs nothing but this checkout; see docs/benchmarks.md. `npm run bench` builds, then runs this. With names of parts as
// arguments it measures those and writes nothing.
import { kernelsStatus } from '@finetable/kernels';
import { measureDtypes, measurePortable } from './dtypes.mjs';
import { measureLookups } from './lookup.mjs';
import { describeMachine, heading } from './machine.mjs';
import { measureOpening } from './open.mjs';
import { measurePhysical } from './physical.mjs';
import { Report } from './report.mjs';
import { measureSteps } from './step.mjs';
import { measureThreads } from './threads.mjs';
import { measureUnpooled } from './unpooled.mjs';

const parts = {
  opening: measureOpening, // first: resident memory is smallest, and so most telling
  physical: measurePhysical,
  lookup: measureLookups,
  threads: measureThreads,
  unpooled: measureUnpooled,
  dtypes: measureDtypes,
  portable: measurePortable,
  steps: measureSteps,
};
const wanted = process.argv.slice(2);
const unknown = wanted.find((name) => !(name in parts));
if (unknown !== undefined) {
  console.error(`there is no part "${unknown}"; there are ${Object.keys(parts).join(', ')}`);
  process.exit(2);
}

const begun = performance.now();
const machine = describeMachine();
for (const [name, value] of machine) console.log(`${name.padEnd(12)} ${value}`);
const report = new Report();
for (const [name, measure] of Object.entries(parts)) {
  if (name === 'portable' && !kernelsStatus().native) continue; // nothing to compare them with
  if (wanted.length === 0 || wanted.includes(name)) await measure(report);
}
if (wanted.length === 0) report.write('bench', heading('npm run bench', machine, begun));
