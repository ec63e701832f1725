// Every row that needs nothing but this checkout; see docs/benchmarks.md. `npm run bench` builds, then runs this.
import { kernelsStatus } from '@finetable/kernels';
import { measureLookups, measurePortable, measureThreads, reportLimits } from './lookup.mjs';
import { describeMachine, heading } from './machine.mjs';
import { measureOpening } from './open.mjs';
import { Report } from './report.mjs';
import { measureSteps } from './step.mjs';

const begun = performance.now();
const machine = describeMachine();
for (const [name, value] of machine) console.log(`${name.padEnd(12)} ${value}`);

const report = new Report();
await measureOpening(report); // first: resident memory is smallest, and so most telling
await measureLookups(report);
reportLimits(report);
await measureThreads(report);
if (kernelsStatus().native) await measurePortable(report);
await measureSteps(report);

report.write('bench', heading('npm run bench', machine, begun));
