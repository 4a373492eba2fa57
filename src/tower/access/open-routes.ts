/**
 * The one list of what anybody may ask of the public port, without showing who asks. Each of them asks for its own proof, or tells nothing. Every
 * other route answers 401; a test walks the whole table and holds that (test/unit/tower/access-routes.test.ts).
 */
export const openRoutes: ReadonlySet<string> = new Set([
  'GET /v1/health',
  'POST /v1/enroll',
  'POST /v1/enroll/challenge',
  'POST /v1/preflight',
  'POST /v1/unseal',
  'POST /v1/operators/redeem',
  /** Login: by a JWT, or the certificate of the connection. */
  'POST /v1/sessions',
]);
