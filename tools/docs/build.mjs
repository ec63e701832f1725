// `npm run docs`: the guide and the API of every package as one static site, `docs/site`. A warning of TypeDoc, a broken link among them, ends it.
import { ensureInstalled, nx, root, run } from '../ensure.mjs';

ensureInstalled();
nx(['build'], { quiet: true }); // types of the packages that others import
run(`${root}node_modules/.bin/typedoc`, []);
