// `npm run docs:open [port]`: serves `docs/site` to this machine alone until it is interrupted.
import { existsSync } from 'node:fs';
import { serveSite, site } from './serve.mjs';

if (!existsSync(site)) {
  console.error('docs/site is not there; npm run docs makes it.');
  process.exit(2);
}
const server = await serveSite(Number(process.argv[2] ?? 8080));
console.log(`http://127.0.0.1:${server.address().port}/`);
