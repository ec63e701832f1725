/** The site that `npm run docs` builds: its links, and how it works in a headless Chromium, where there is one. */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { chromium, type Browser, type Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test, type TestContext } from 'vitest';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const executablePath = ['chromium', 'chromium-browser', 'google-chrome']
  .flatMap((name) => (process.env.PATH ?? '').split(delimiter).map((folder) => join(folder, name)))
  .find((path) => existsSync(path));

let site: string;
let server: ChildProcess | undefined;
let origin: string;
let browser: Browser | null = null;

beforeAll(async () => {
  site = await mkdtemp(join(tmpdir(), 'finetable-site-'));
  // Warnings are errors there, broken links among them.
  await promisify(execFile)(process.execPath, [join(root, 'node_modules/typedoc/bin/typedoc'), '--out', site], { cwd: root }); // prettier-ignore
  server = spawn(process.execPath, [join(root, 'tools/docs/open.mjs'), '0', site], { stdio: ['ignore', 'pipe', 'inherit'] }); // prettier-ignore
  const { stdout } = server;
  origin = await new Promise((resolve) => stdout!.once('data', (text) => resolve(String(text).trim())));
  if (executablePath !== undefined) browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
}, 300_000);

afterAll(async () => {
  await browser?.close();
  server?.kill();
  await rm(site, { recursive: true, force: true });
});

/** A page, and what went wrong on it. */
async function open(
  context: TestContext,
  options: { readonly width?: number; readonly colorScheme?: 'light' | 'dark' } = {},
): Promise<{ page: Page; problems: string[] }> {
  if (browser === null) return context.skip('no Chromium on the PATH');
  const { width = 1280, colorScheme = 'light' } = options;
  const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme });
  const problems: string[] = [];
  page.on('console', (message) => message.type() === 'error' && problems.push(`${page.url()}: ${message.text()}`));
  page.on('pageerror', (error) => problems.push(`${page.url()}: ${error.message}`));
  page.on(
    'response',
    (response) => response.status() >= 400 && problems.push(`${response.url()}: ${response.status()}`),
  );
  context.onTestFinished(() => page.close());
  return { page, problems };
}

const guide = async (): Promise<string[]> =>
  (await readdir(join(site, 'documents'))).map((name) => `documents/${name}`);

test('every link within the site leads to a page, and to a heading of it', async () => {
  const pages = (await readdir(site, { recursive: true })).filter((name) => name.endsWith('.html'));
  const texts = new Map(await Promise.all(pages.map(async (page) => [page, await readFile(join(site, page), 'utf8')] as const))); // prettier-ignore
  const ids = new Map([...texts].map(([page, text]) => [page, new Set([...text.matchAll(/ id="([^"]+)"/g)].map((m) => m[1]))])); // prettier-ignore
  const broken: string[] = [];
  for (const [page, text] of texts)
    for (const [, href = ''] of text.matchAll(/(?:href|src)="([^"]*)"/g)) {
      if (/^(https?:|data:|#$|$)/.test(href)) continue;
      const [path = '', hash = ''] = decodeURI(href.replaceAll('&amp;', '&')).split('#');
      let target = path === '' ? page : join(dirname(page), path);
      if (path.endsWith('/') || target === '.') target = join(target, 'index.html');
      const there = texts.has(target) ? hash === '' || ids.get(target)!.has(hash) : existsSync(join(site, target));
      if (!there) broken.push(`${page}: ${href}`);
    }
  expect(pages.length).toBeGreaterThan(500);
  expect(broken).toEqual([]);
});

test('the guide has its chapters, and every package its page', async () => {
  const numbers = (await guide()).map((name) => Number(/documents\/(\d+)\./.exec(name)?.[1])).filter((n) => n > 0);
  expect([...new Set(numbers)].sort((a, b) => a - b)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  const packages = (await readdir(join(root, 'packages'))).filter((name) =>
    existsSync(join(root, 'packages', name, 'package.json')),
  );
  const modules = await readdir(join(site, 'modules'));
  expect(modules).toHaveLength(packages.length);
});

test('pages load without errors, light and dark, and fit a phone', { timeout: 120_000 }, async (context) => {
  const { page, problems } = await open(context);
  const phone = await open(context, { width: 390, colorScheme: 'dark' });
  for (const path of [
    'index.html',
    ...(await guide()),
    'modules/_finetable_lora.html',
    'functions/_finetable_lora.createAdapter.html',
  ]) {
    await page.goto(`${origin}${path}`);
    await phone.page.goto(`${origin}${path}`);
    const wide = await phone.page.evaluate('document.documentElement.scrollWidth - innerWidth');
    expect(wide, `${path} is wider than a phone`).toBeLessThanOrEqual(0);
  }
  expect([...problems, ...phone.problems]).toEqual([]);
});

test('the search finds createAdapter, and its page', async (context) => {
  const { page, problems } = await open(context);
  await page.goto(`${origin}index.html`);
  await page.click('#tsd-search-trigger');
  await page.fill('#tsd-search-input', 'createAdapter');
  await page.click('#tsd-search-results a[href*="createAdapter.html"]');
  await page.waitForURL(/createAdapter\.html/);
  expect(await page.textContent('h1')).toContain('createAdapter');
  expect(problems).toEqual([]);
});

/** WCAG 2.1 A and AA, but for TypeDoc's footer, and links within the headings that its pages of the API fold by. */
const rules = {
  runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'],
  rules: { 'nested-interactive': { enabled: false } },
};
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

test.for(['light', 'dark'] as const)(
  'axe finds nothing to object to, %s',
  { timeout: 120_000 },
  async (colorScheme, context) => {
    for (const path of [
      'index.html',
      'documents/2._Ten_minutes.html',
      'documents/3._Tables.html',
      'classes/_finetable_lora.Adapter.html',
    ]) {
      const { page } = await open(context, { colorScheme });
      await page.goto(`${origin}${path}`);
      await page.evaluate(axe);
      const { violations } = (await page.evaluate(`axe.run({ exclude: ['footer'] }, ${JSON.stringify(rules)})`)) as { violations: { id: string; nodes: { target: string[] }[] }[] }; // prettier-ignore
      expect(violations.map(({ id, nodes }) => `${path}: ${id}: ${nodes.slice(0, 3).map(({ target }) => target.join(' ')).join(', ')} (${nodes.length})`)).toEqual([]); // prettier-ignore
    }
  },
);
