// Prepares what the tests of packages/webgpu run on where there is no GPU: .cache/webgpu gets npm's `webgpu` (Dawn), which link.mjs puts among the workspace's
// packages, and .cache/vulkan Mesa's software Vulkan driver (lavapipe) with the loader, unpacked from Debian's packages beside the system: nothing is
// installed, and apt's own lists stay as they are. Mesa of Debian 12 is too old for Dawn; that of its backports is not. Needs Debian or a relative of it for the
// driver, and nothing of node_modules, which may be under installation meanwhile.
//
//   node tools/vulkan/setup.mjs
//
// Prints the variables that a program must be started with (vitest.config.ts sets them for tests). Always exits 0: what is not to be had is named with
// the reason, so that what needs it can be left out with that reason.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { dawnFolder, linkWebgpu, mesaFolder, prepared, vulkanEnvironment } from './link.mjs';

const NPM = { webgpu: '0.6.2' };
const DEBIAN = ['mesa-vulkan-drivers', 'libvulkan1'];
/** Releases whose own Mesa is too old. */
const BACKPORTS = ['bookworm'];
const LIMIT_MS = 5 * 60_000;

function run(command, args, cwd) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, timeout: LIMIT_MS, stdio: ['ignore', 'pipe', 'pipe'] });
    let [output, messages] = ['', ''];
    child.stdout.on('data', (text) => (output += text));
    child.stderr.on('data', (text) => (messages += text));
    child.on('error', (error) => reject(new Error(`${command}: ${error.message}`)));
    child.on('close', (code) => {
      if (code === 0) return resolve(output);
      const lines = `${output}${messages}`.trim().split('\n');
      reject(new Error(`${command}: ${lines.find((line) => /^(E:|npm err)/i.test(line)) ?? lines.at(-1)}`));
    });
  });
}

async function prepare(folder, pins, fill) {
  const stamp = join(folder, prepared);
  const wanted = JSON.stringify(pins);
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return;
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  try {
    await fill(folder);
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
  writeFileSync(stamp, wanted); // last: a folder without it was cut short
}

async function fetchDawn(folder) {
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, dependencies: NPM }));
  const quick = ['--ignore-scripts', '--no-audit', '--no-fund', '--no-package-lock', '--fetch-retries=1'];
  await run('npm', ['install', ...quick], folder);
  const built = join(folder, 'node_modules', 'webgpu', 'dist');
  for (const platform of readdirSync(built))
    if (platform !== `${process.platform}-${process.arch}` && !platform.endsWith('-universal'))
      rmSync(join(built, platform), { recursive: true });
}

async function fetchMesa(folder) {
  if (process.platform !== 'linux') throw new Error("Debian's packages are used on Linux only");
  const codename = /^VERSION_CODENAME=(.*)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  const apt = join(folder, 'apt');
  mkdirSync(join(apt, 'lists', 'partial'), { recursive: true });
  mkdirSync(join(apt, 'cache', 'archives', 'partial'), { recursive: true });
  const options = [
    `Dir::State::Lists=${apt}/lists`,
    `Dir::Cache=${apt}/cache`,
    'APT::Sandbox::User=root', // apt's own user may not be allowed to enter this folder
    'Debug::NoLocking=true', // nothing of the system is written
    'Acquire::Languages=none',
    'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false',
    'Acquire::Retries=1',
  ];
  const release = [];
  if (BACKPORTS.includes(codename)) {
    const sites = await run('apt-get', ['indextargets', '--format', '$(SITE) $(CODENAME)', 'Created-By: Packages']);
    const site = sites.split('\n').find((line) => line.endsWith(` ${codename}`))?.split(' ')[0]; // prettier-ignore
    if (!site) throw new Error(`apt knows no source of ${codename}`);
    const suites = [codename, `${codename}-backports`];
    const key = '[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]';
    writeFileSync(join(apt, 'sources.list'), suites.map((suite) => `deb ${key} ${site} ${suite} main\n`).join(''));
    options.push(`Dir::Etc::SourceList=${apt}/sources.list`, 'Dir::Etc::SourceParts=/dev/null');
    release.push('-t', suites[1]);
  }
  const set = options.flatMap((option) => ['-o', option]);
  await run('apt-get', [...set, 'update', '-qq']);
  // With all that they need and this system has not.
  await run('apt-get', [...set, ...release, 'install', '-y', '-qq', '--download-only', '--no-install-recommends', ...DEBIAN]); // prettier-ignore
  const archives = join(apt, 'cache', 'archives');
  for (const name of readdirSync(archives).filter((file) => file.endsWith('.deb')))
    await run('dpkg', ['-x', join(archives, name), folder]);
  rmSync(apt, { recursive: true });
  if (!existsSync(join(folder, 'usr/share/vulkan/icd.d/lvp_icd.json')))
    throw new Error('no lavapipe among the packages');
}

/** Whether the system itself has a driver: a GPU's, most likely. */
function systemDriver() {
  return ['/etc/vulkan/icd.d', '/usr/share/vulkan/icd.d'].some(
    (path) => existsSync(path) && readdirSync(path).length > 0,
  );
}

const [dawn, mesa] = await Promise.allSettled([
  prepare(dawnFolder, NPM, fetchDawn),
  systemDriver() ? null : prepare(mesaFolder, [DEBIAN, BACKPORTS], fetchMesa),
]);
linkWebgpu();
console.log(dawn.reason ? `no WebGPU: ${dawn.reason.message}` : `WebGPU: npm's webgpu ${NPM.webgpu}`);
if (mesa.reason) console.log(`no software Vulkan driver: ${mesa.reason.message}`);
else if (systemDriver()) console.log("the system's Vulkan drivers are used");
else for (const [name, value] of Object.entries(vulkanEnvironment({}))) console.log(`export ${name}=${value}`);
