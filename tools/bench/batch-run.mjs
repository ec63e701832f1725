// A process that runs some jobs, alone or as a batch, and prints how long that took and the most memory that was resident. See batch.mjs.
import { readJob, runJob, runJobs } from '@finetable/trainer';

const { jobs, concurrency, threads, runs } = JSON.parse(process.argv[2]);
const loaded = await Promise.all(jobs.map((overrides) => readJob(overrides.file, overrides.set)));
const begun = performance.now();
const results = [];
if (concurrency === 0) {
  for (const [i, job] of loaded.entries()) results.push(await runJob(job, { folder: `${runs}/${i}`, report: false }));
} else {
  const placed = loaded.map(({ job, folder }, i) => ({ job: { ...job, output: `${runs}/${i}` }, folder }));
  const outcomes = await runJobs(placed, { concurrency, threads });
  const failed = outcomes.find(({ error }) => error);
  if (failed) throw failed.error;
  results.push(...outcomes.map(({ result }) => result));
}
const [{ adapterBytes, optimizerBytes }] = Object.values(results[0].adapters);
console.log(
  JSON.stringify({
    seconds: (performance.now() - begun) / 1000,
    residentBytes: process.resourceUsage().maxRSS * 1024,
    addedBytes: adapterBytes + optimizerBytes,
  }),
);
