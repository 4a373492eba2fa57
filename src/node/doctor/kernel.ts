/** What app networks need of the kernel: TUN devices, and WireGuard, without which packets are encrypted in user space. */
import { readFile, stat } from 'node:fs/promises';
import { release } from 'node:os';
import { join } from 'node:path';
import { type Check, type Finding, ok, warning } from './finding.ts';

/** `root`: of the file system; another for tests. */
export function kernelCheck(root = '/'): Check {
  return { name: 'kernel', run: async () => await Promise.all([tun(root), wireguard(root)]) };
}

async function tun(root: string): Promise<Finding> {
  const [path, expected] = [join(root, 'dev/net/tun'), 'a character device, for app networks'];
  const isDevice = (await stat(path).catch(() => null))?.isCharacterDevice() ?? false;
  if (isDevice) return ok('kernel tun', `${path} is there`, expected);
  return warning('kernel tun', `${path} is not there`, expected, 'Load the module `tun`, or give the container the device. Only app networks need it.');
}

async function wireguard(root: string): Promise<Finding> {
  const expected = 'the kernel has WireGuard, for app networks';
  const isLoaded = (await stat(join(root, 'sys/module/wireguard')).catch(() => null)) !== null;
  const modules = join(root, 'lib/modules', release());
  const lists = await Promise.all(['modules.dep', 'modules.builtin'].map((file) => readFile(join(modules, file), 'utf8').catch(() => '')));
  if (isLoaded || lists.some((list) => /\/wireguard\.ko/.test(list))) return ok('kernel wireguard', isLoaded ? 'loaded' : 'there, to be loaded', expected);
  return warning(
    'kernel wireguard',
    'not in this kernel: app networks encrypt in user space',
    expected,
    'Nothing has to be done; a kernel with WireGuard takes less CPU.',
  );
}
