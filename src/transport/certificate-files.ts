/**
 * A server certificate from files (spec 4.4), for the HTTPS side of a listener: read at start, and again when the files change, whether they are renamed over or
 * written in place. What is read is whole and of its key before it is shown; what is not is told, once, and the one before stays. Connections that are there are untouched.
 */
import { createHash, createPrivateKey, X509Certificate } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import type { Watched } from '../identity/expiry.ts';
import { readFileBounded } from '../identity/files.ts';
import { lifetimeOf } from '../identity/lifetime.ts';
import type { ServerCertificate } from './listener.ts';
import type { Credentials } from './session.ts';
import type { Timers } from './system.ts';
import { httpContextOf } from './tcp-tls.ts';

export interface CertificatePaths {
  /** PEM: the server's certificate, then the intermediates. */
  readonly chain: string;
  /** PEM, not encrypted. */
  readonly key: string;
}

export interface CertificateFilesOptions extends CertificatePaths {
  readonly timers: Timers;
  readonly log: (message: string, facts: Readonly<Record<string, string | number | boolean | null>>) => void;
}

export class CertificateFiles implements ServerCertificate {
  readonly #options: CertificateFilesOptions;
  #credentials: Credentials;
  /** What was found at the last look, good or not: each state is told once. */
  #seen: string;
  #looking: Promise<void> | null = null;
  #cancel: () => void = () => {};
  #onChange: (credentials: Credentials) => void = () => {};
  #isClosed = false;
  /** That others may read the key was told, and is so still. */
  #isOpenToOthers = false;

  private constructor(options: CertificateFilesOptions, credentials: Credentials, seen: string) {
    this.#options = options;
    this.#credentials = credentials;
    this.#seen = seen;
  }

  /** An expired certificate is taken, and warned of as others are: a tower that does not start would help nobody. @throws certificate_files_invalid */
  static async open(options: CertificateFilesOptions): Promise<CertificateFiles> {
    const files = await readBoth(options);
    const opened = new CertificateFiles(options, credentialsIn(options, files), hashOf(files));
    await opened.#checkMode();
    return opened;
  }

  get credentials(): Credentials {
    return this.#credentials;
  }

  /** For the warnings of status and log. */
  get watched(): readonly Watched[] {
    return [{ name: `the server certificate ${this.#options.chain}`, der: this.#credentials.chain[0] ?? new Uint8Array(), renews_ms: null }];
  }

  /** From now on they are looked at, and `onChange` is told what is to be shown instead. */
  watch(onChange: (credentials: Credentials) => void): void {
    this.#onChange = onChange;
    this.#lookLater();
  }

  /** Reads the files now. */
  look(): Promise<void> {
    this.#cancel();
    this.#looking ??= this.#look().finally(() => {
      this.#looking = null;
      this.#lookLater();
    });
    return this.#looking;
  }

  close(): void {
    this.#isClosed = true;
    this.#cancel();
  }

  async #look(): Promise<void> {
    const found = await readBoth(this.#options).then(
      (files) => ({ files, seen: hashOf(files) }),
      (error: unknown) => ({ error, seen: String(error) }),
    );
    if (this.#isClosed) return;
    await this.#checkMode();
    if (this.#isClosed || found.seen === this.#seen) return;
    this.#seen = found.seen;
    const { chain: path, log } = this.#options;
    try {
      if ('error' in found) throw found.error;
      const credentials = credentialsIn(this.#options, found.files);
      this.#checkBetter(credentials);
      this.#credentials = credentials;
      this.#onChange(credentials);
      log('server certificate changed', { path, not_after_ms: lifetimeOf(credentials.chain[0]).notAfter_ms });
    } catch (error) {
      const { code, message } = asSelvedgeError(error, 'internal_error', { what: 'reading the server certificate' });
      log('server certificate not taken; the one before stays', { code, reason: message });
    }
  }

  /** Tools that renew certificates often let a group read the key, so that it is warned of, once, and not refused. */
  async #checkMode(): Promise<void> {
    const { key: path, log } = this.#options;
    const mode = await stat(path).then(
      (facts) => facts.mode & 0o777,
      () => 0,
    );
    const isOpen = (mode & 0o077) !== 0;
    if (isOpen && !this.#isOpenToOthers)
      log('key of the server certificate is open to others', { path, reason: `its mode is 0${mode.toString(8)}; 0600 keeps it to this user` });
    this.#isOpenToOthers = isOpen;
  }

  /** A good one is not given up for one that nobody accepts. */
  #checkBetter(next: Credentials): void {
    const now_ms = this.#options.timers.clock.wall();
    const isCurrent = ({ chain: [leaf] }: Credentials): boolean => {
      const { notBefore_ms, notAfter_ms } = lifetimeOf(leaf);
      return notBefore_ms <= now_ms && now_ms <= notAfter_ms;
    };
    if (isCurrent(next) || !isCurrent(this.#credentials)) return;
    const { notBefore_ms, notAfter_ms } = lifetimeOf(next.chain[0]);
    const why =
      now_ms < notBefore_ms ? `it is not valid before ${new Date(notBefore_ms).toISOString()}` : `it expired at ${new Date(notAfter_ms).toISOString()}`;
    throw refused(this.#options.chain, why);
  }

  #lookLater(): void {
    if (!this.#isClosed) this.#cancel = this.#options.timers.after(limits.certificate_files_look_ms, () => void this.look());
  }
}

interface Files {
  readonly chain: string;
  readonly key: string;
}

async function readBoth({ chain, key }: CertificatePaths): Promise<Files> {
  const [chainText, keyText] = await Promise.all([readText(chain), readText(key)]);
  return { chain: chainText, key: keyText };
}

async function readText(path: string): Promise<string> {
  try {
    const bytes = await readFileBounded(path, limits.certificate_files_bytes_max);
    if (bytes !== null) return new TextDecoder().decode(bytes);
  } catch (error) {
    throw refused(path, error instanceof SelvedgeError ? error.message : 'it cannot be read');
  }
  throw refused(path, 'it is not there');
}

function hashOf({ chain, key }: Files): string {
  return createHash('sha256').update(`${chain}\0${key}`).digest('hex');
}

const PEM = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g;

/** While one file is new and the other not yet, they do not fit: the next look finds both. @throws certificate_files_invalid */
function credentialsIn(paths: CertificatePaths, files: Files): Credentials {
  const pems = files.chain.match(PEM) ?? [];
  if (pems.length === 0) throw refused(paths.chain, 'it holds no certificate in PEM');
  if (pems.length > limits.certificate_files_certs_max) throw refused(paths.chain, `it holds more than ${limits.certificate_files_certs_max} certificates`);
  // A file that is being written ends anywhere.
  if (pems.length !== files.chain.split('-----BEGIN CERTIFICATE-----').length - 1) throw refused(paths.chain, 'its last certificate is not whole');
  const chain = pems.map((pem) => parsed(paths.chain, 'a certificate in it', () => new X509Certificate(pem)));
  const key = parsed(paths.key, 'the key in it', () => createPrivateKey(files.key));
  const [leaf] = chain;
  if (leaf?.checkPrivateKey(key) !== true) throw refused(paths.chain, `its first certificate is not of the key in ${paths.key}`);
  const credentials = { chain: chain.map(({ raw }) => new Uint8Array(raw)), key: new Uint8Array(key.export({ type: 'pkcs8', format: 'der' })) };
  parsed(paths.chain, 'it', () => httpContextOf(credentials));
  return credentials;
}

/** OpenSSL's own words for a key may quote it, so that they are not passed on. */
function parsed<T>(path: string, what: string, parse: () => T): T {
  try {
    return parse();
  } catch {
    throw refused(path, `${what} cannot be read`);
  }
}

function refused(path: string, why: string): SelvedgeError {
  return new SelvedgeError('certificate_files_invalid', { path, why });
}
