// `npm run bench`: measurements as ratios within one run, since absolute times on shared machines mean little; `bench:peers`: the same
// beside Python's libraries.
import { ensureInstalled, nx, root, run } from './ensure.mjs';

ensureInstalled();
nx(['build'], { quiet: true });
run(process.execPath, [`${root}tools/bench/${process.argv.includes('--peers') ? 'peers' : 'main'}.mjs`]);
