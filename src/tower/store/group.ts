/**
 * Group commit: changes that are asked for while one is being written share its transaction, and with it the one sync of the disk, which costs more than most
 * changes do. Each stands for itself: one that fails is taken back alone, and nobody hears how his own went before all of it is on disk.
 *
 * For an engine with one connection, where changes wait for each other anyway. What a change reads is what those before it wrote, as if they had been committed.
 */
import { setImmediate } from 'node:timers/promises';
import type { ControlledTransaction, Kysely, Transaction } from 'kysely';
import { limits } from '../../base/limits.ts';

export interface GroupCommitOptions<Database> {
  readonly db: Kysely<Database>;
  /** What a change had read or written is not to be: whoever remembers anything of it forgets it. */
  readonly onLost: () => void;
}

interface Waiting<Database> {
  readonly isReading: boolean;
  readonly change: (tx: Transaction<Database>) => Promise<unknown>;
  readonly resolve: (result: never) => void;
  readonly reject: (error: unknown) => void;
}

const SAVEPOINT = 'change';

export class GroupCommit<Database> {
  readonly #options: GroupCommitOptions<Database>;
  #waiting: Waiting<Database>[] = [];
  #isRunning = false;

  constructor(options: GroupCommitOptions<Database>) {
    this.#options = options;
  }

  /** Resolves or rejects as the change does, once it is on disk. */
  write<Result>(change: (tx: Transaction<Database>) => Promise<Result>): Promise<Result> {
    return this.#queue(change, false);
  }

  /** Reads at one moment, and what it reads is on disk when it resolves. */
  read<Result>(query: (tx: Transaction<Database>) => Promise<Result>): Promise<Result> {
    return this.#queue(query, true);
  }

  #queue<Result>(change: (tx: Transaction<Database>) => Promise<Result>, isReading: boolean): Promise<Result> {
    return new Promise<Result>((resolve, reject) => {
      this.#waiting.push({ change, isReading, resolve, reject });
      if (!this.#isRunning) void this.#run();
    });
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    while (this.#waiting.length > 0) {
      // Whoever else has already asked over a socket is heard before: one turn of the event loop.
      await setImmediate();
      await this.#group();
    }
    this.#isRunning = false;
  }

  async #group(): Promise<void> {
    /** How each has gone, to be said once it is true for good. */
    const settle: (() => void)[] = [];
    const members: Waiting<Database>[] = [];
    let tx: ControlledTransaction<Database> | null = null;
    try {
      tx = await this.#options.db.startTransaction().execute();
      for (let next = this.#waiting.shift(); next !== undefined; next = members.length < limits.store_group_changes_max ? this.#waiting.shift() : undefined) {
        members.push(next);
        settle.push(next.isReading ? await look(tx, next) : await this.#attempt(tx, next));
      }
      await tx.commit().execute();
    } catch (error) {
      const told = this.#lost(error);
      // An engine that has taken everything back by itself has nothing left to take back: what counts is what went wrong before.
      await tx
        ?.rollback()
        .execute()
        .catch(() => undefined);
      for (const { reject } of members.length > 0 ? members : this.#waiting.splice(0, 1)) reject(told);
      return;
    }
    for (const say of settle) say();
  }

  /** What is to be told about it after the commit. Throws if not only this change is lost, but all of the transaction. */
  async #attempt(tx: ControlledTransaction<Database>, { change, resolve, reject }: Waiting<Database>): Promise<() => void> {
    const within = await tx.savepoint(SAVEPOINT).execute();
    let say: () => void;
    try {
      const result = await change(within);
      say = () => resolve(result as never);
    } catch (error) {
      // An engine that took back all of it has no savepoint any more.
      await within
        .rollbackToSavepoint(SAVEPOINT)
        .execute()
        .catch(() => {
          throw error;
        });
      const told = this.#lost(error);
      say = () => reject(told);
    }
    await within.releaseSavepoint(SAVEPOINT).execute();
    return say;
  }

  /** What is told of a change that is lost. Where forgetting it fails too, that is told with it; the next change is written all the same. */
  #lost(error: unknown): unknown {
    try {
      this.#options.onLost();
      return error;
    } catch (defect) {
      return new AggregateError([error, defect], 'a change is lost, and what was remembered of it could not be forgotten');
    }
  }
}

/** There is nothing to take back. */
async function look<Database>(tx: Transaction<Database>, { change, resolve, reject }: Waiting<Database>): Promise<() => void> {
  const [outcome] = await Promise.allSettled([change(tx)]);
  return () => (outcome.status === 'fulfilled' ? resolve(outcome.value as never) : reject(outcome.reason));
}
