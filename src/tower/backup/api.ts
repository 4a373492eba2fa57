/** The one route that is on the local socket alone: it has the tower write a file on its own host, which is for whoever may open the socket. */
import { Type } from 'typebox';
import { management } from '../../api/access.ts';
import { type Api, ErrorSchema } from '../../api/http.ts';
import type { Tower } from '../tower.ts';

const BackupSchema = Type.Object({
  cluster: Type.String(),
  version: Type.Integer(),
  rows: Type.Integer({ description: 'of the audit log' }),
  at_ms: Type.Number({ description: 'milliseconds since the epoch' }),
});

export function backupRoutes(api: Api, tower: Tower): void {
  const body = Type.Object(
    { file: Type.String({ pattern: '^/', maxLength: 4096, description: 'absolute path of a file that is not there yet' }) },
    { additionalProperties: false },
  );
  const schema = { tags: ['tower'], body, response: { 200: BackupSchema, '4xx': ErrorSchema, '5xx': ErrorSchema } };
  api.post('/v1/backups', { ...management, schema }, async (request) => {
    // A large database takes longer to copy than a connection may be silent.
    request.raw.socket.setTimeout(0);
    const { format: _format, ...facts } = await tower.backup(request.body.file, request.caller.actor);
    return facts;
  });
}
