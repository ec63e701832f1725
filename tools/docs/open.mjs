// `npm run docs:open [port]`: serves `docs/site`, or another folder, to this machine alone until it is interrupted.
import { existsSync } from 'node:fs';
import { serveSite, site } from './serve.mjs';

const [port = '8080', folder = site] = process.argv.slice(2);
if (!existsSync(folder)) {
  console.error(`${folder} is not there; npm run docs makes the site.`);
  process.exit(2);
}
const server = await serveSite(Number(port), folder);
console.log(`http://127.0.0.1:${server.address().port}/`);
