// `npm run bench`: measurements as ratios within one run, since absolute times on shared machines mean little; `bench:peers`: the same
// beside Python's libraries.
import { ensureInstalled, nx, root, run } from './ensure.mjs';

ensureInstalled();
nx(['build'], { quiet: true });
const args = process.argv.slice(2);
const script = args[0] === '--peers' ? 'peers' : 'main';
run(process.execPath, [`${root}tools/bench/${script}.mjs`, ...args.filter((arg) => arg !== '--peers')]);
