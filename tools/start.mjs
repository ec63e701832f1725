// `npm start`: everything that is needed, then the quickstart.
import { ensureInstalled, nx, root, run } from './ensure.mjs';

ensureInstalled();
console.log('Building the packages; the first time takes a little.');
nx(['build'], { quiet: true });
run(process.execPath, [`${root}examples/languages/run.mjs`, ...process.argv.slice(2)]);
