/** Which certificate a daemon's HTTPS side shows (spec 4.4): that of files, or, for development alone, a self-signed one; null: the cluster's. */
import type { Command } from 'commander';
import { SelvedgeError } from '../src/base/errors.ts';
import { selfSigned } from '../src/identity/self-signed.ts';
import { CertificateFiles } from '../src/transport/certificate-files.ts';
import type { ServerCertificate } from '../src/transport/listener.ts';
import { systemRandom, systemTimers } from '../src/transport/system.ts';
import type { Log } from './run.ts';

export interface ServerCertificateFlags {
  readonly certificateFile?: string;
  readonly certificateKeyFile?: string;
  readonly insecureDevelopment?: boolean;
}

/** Their options, as configuration.md has them too. */
export function withServerCertificate(command: Command): Command {
  return command
    .option('--certificate-file <file>', "certificate chain (PEM) that HTTPS shows, read again when it changes (default: the cluster's)")
    .option('--certificate-key-file <file>', 'its key (PEM)')
    .option('--insecure-development', 'HTTPS shows a self-signed certificate: for development alone');
}

/** @throws argument_invalid, certificate_files_invalid */
export async function openServerCertificate(
  { certificateFile: chain, certificateKeyFile: key, insecureDevelopment = false }: ServerCertificateFlags,
  log: Log,
): Promise<ServerCertificate | null> {
  if ((chain === undefined) !== (key === undefined))
    throw new SelvedgeError('argument_invalid', { name: 'certificate-file', why: '--certificate-file and --certificate-key-file come together' });
  if (chain !== undefined && key !== undefined) return await CertificateFiles.open({ chain, key, timers: systemTimers, log });
  if (!insecureDevelopment) return null;
  const credentials = await selfSigned('development', { now_ms: systemTimers.clock.wall(), random: systemRandom });
  log('HTTPS shows a self-signed certificate, which proves nothing: for development alone', {});
  return { credentials, watched: [], watch: () => undefined, close: () => undefined };
}
