// The site over HTTP on loopback, for `npm run docs:open` and its test.
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { root } from '../ensure.mjs';

export const site = join(root, 'docs', 'site');

const types = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
};

/** @returns the server, listening; port 0 is any that is free */
export function serveSite(port = 0, folder = site) {
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    // Browsers ask for it by themselves, and the site has none.
    if (pathname === '/favicon.ico') return response.writeHead(204).end();
    try {
      // What a path says beyond the site's root stays within it.
      const path = join(
        folder,
        normalize(`/${decodeURIComponent(pathname)}`),
        pathname.endsWith('/') ? 'index.html' : '',
      );
      const body = await readFile(path);
      response.writeHead(200, { 'content-type': types[extname(path)] ?? 'text/plain; charset=utf-8' }).end(body);
    } catch {
      response.writeHead(404, { 'content-type': 'text/plain' }).end(`${pathname} is not there\n`);
    }
  });
  return new Promise((resolve, reject) => {
    server.on('error', reject);
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
}
