// `npm start`: everything that is needed, then the quickstart.
import { ensureInstalled, nx, root, run } from './ensure.mjs';

ensureInstalled();
nx(['build']);
run(process.execPath, [`${root}examples/languages/run.mjs`, ...process.argv.slice(2)]);
