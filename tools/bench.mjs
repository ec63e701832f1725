// `npm run bench`: measurements as ratios within one run, since absolute times on shared machines mean little; `bench:peers`: the same
// beside Python's libraries; `bench:gpu`: tables on a GPU.
import { ensureInstalled, nx, root, run } from './ensure.mjs';
import { vulkanEnvironment } from './vulkan/link.mjs';

ensureInstalled();
nx(['build'], { quiet: true });
const args = process.argv.slice(2);
const flag = ['--peers', '--gpu'].find((name) => args[0] === name);
const script = flag?.slice(2) ?? 'main';
run(process.execPath, [`${root}tools/bench/${script}.mjs`, ...args.filter((arg) => arg !== flag)], {
  env: { ...process.env, ...vulkanEnvironment() },
});
