/*-------------------------------------------------------------------------
 *
 * cmq_args.c
 *	  Arguments of the functions: checked, with errors that name the queue.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type_d.h"
#include "nodes/primnodes.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_headers.h"

/* The name in an argument, palloc'd; raises 22023 when it is NULL. */
char *
cmq_name_arg(FunctionCallInfo fcinfo, int argno, const char *argname)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be NULL", argname)));
	return text_to_cstring(PG_GETARG_TEXT_PP(argno));
}

char *
cmq_queue_name_arg(FunctionCallInfo fcinfo, int argno)
{
	char	   *name = cmq_name_arg(fcinfo, argno, "queue");

	/* no call is for journals, which are described as queues are */
	if (cmq_is_journal_name(name))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("queue \"%s\" does not exist", name)));
	return name;
}

/*
 * Is an argument the same in all calls?  A parameter is not: the next call of a function in
 * PL/pgSQL can have another value.
 */
bool
cmq_is_constant_arg(FunctionCallInfo fcinfo, int argno)
{
	FuncExpr   *call = (FuncExpr *) fcinfo->flinfo->fn_expr;

	return call && IsA(call, FuncExpr) && argno < list_length(call->args) &&
		IsA(list_nth(call->args, argno), Const);
}

/* Raise 22023 if an argument is NULL; kind and name say whose it is. */
void
cmq_require_arg(FunctionCallInfo fcinfo, int argno, const char *argname,
				const char *kind, const char *name)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be NULL for %s \"%s\"", argname, kind,
						name)));
}

/* Raise 22023 unless the value is between min and max; unit may be "". */
void
cmq_check_range(const char *argname, int64 value, int64 min, int64 max,
				const char *unit, const char *queue)
{
	if (value < min || value > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is out of range for queue \"%s\": %lld", argname,
						queue, (long long) value),
				 errdetail("It must be between %lld and %lld%s.",
						   (long long) min, (long long) max, unit)));
}

/*
 * An int argument between min and max; default_value for NULL, if that is allowed.
 * Raises 22023.
 */
int
cmq_int_arg(FunctionCallInfo fcinfo, int argno, const char *argname, int min,
			int max, int default_value, bool null_ok, const char *queue)
{
	int			value;

	if (PG_ARGISNULL(argno))
	{
		if (null_ok)
			return default_value;
		cmq_require_arg(fcinfo, argno, argname, "queue", queue);
	}
	value = PG_GETARG_INT32(argno);
	cmq_check_range(argname, value, min, max, "", queue);
	return value;
}

/*
 * The elements of a one-dimensional array of this type, palloc'd.  isnull may be NULL:
 * then no element may be NULL.  Returns how many there are; raises 22023.
 */
int
cmq_array_arg(Datum arg, Oid type, const char *argname, const char *kind,
			  const char *name, Datum **elements, bool **isnull)
{
	ArrayType  *array = DatumGetArrayTypeP(arg);
	bool	   *nulls;
	int16		len;
	bool		byval;
	char		align;
	int			n;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be a one-dimensional array for %s \"%s\"",
						argname, kind, name)));
	get_typlenbyvalalign(type, &len, &byval, &align);
	deconstruct_array(array, type, len, byval, align, elements, &nulls, &n);
	for (int i = 0; i < n && isnull == NULL; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s must not contain NULL for %s \"%s\"", argname,
							kind, name)));
	}
	if (isnull)
		*isnull = nulls;
	return n;
}

/*
 * The headers in an array, an argument that is not NULL.  Raises 22023 unless there are
 * as many as bodies, each an object or NULL.
 */
void
cmq_headers_arg(FunctionCallInfo fcinfo, int argno, const char *kind,
				const char *name, int nbodies, Datum **headers, bool **isnull)
{
	int			n = cmq_array_arg(PG_GETARG_DATUM(argno), JSONBOID, "headers",
								  kind, name, headers, isnull);

	if (n != nbodies)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("bodies and headers differ in number for %s \"%s\"",
						kind, name),
				 errdetail("There are %d bodies and %d headers.", nbodies, n)));
	for (int i = 0; i < n; i++)
	{
		if (!(*isnull)[i])
			cmq_headers_check((*headers)[i], i + 1, kind, name);
	}
}

/*
 * The elements of an argument that is a text array with one for each of so many bodies of a
 * queue or topic, palloc'd.  Each may be NULL, the argument is not.  Raises 22023.
 */
void
cmq_texts_arg(FunctionCallInfo fcinfo, int argno, const char *argname,
			  const char *kind, const char *name, int nbodies, Datum **texts,
			  bool **isnull)
{
	int			n = cmq_array_arg(PG_GETARG_DATUM(argno), TEXTOID, argname, kind,
								  name, texts, isnull);

	if (n != nbodies)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("bodies and %s differ in number for %s \"%s\"",
						argname, kind, name),
				 errdetail("There are %d bodies and %d %s.", nbodies, n, argname)));
}

static int
compare_ids(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

/*
 * The message ids in the argument msg_ids, ordered, each once, palloc'd; *nids says how
 * many.  Raises 22023 when it is NULL, has more than one dimension or a NULL element.
 */
int64 *
cmq_msg_ids_arg(FunctionCallInfo fcinfo, int argno, const char *queue, int *nids)
{
	Datum	   *elements;
	int64	   *ids;
	int			n;

	cmq_require_arg(fcinfo, argno, "msg_ids", "queue", queue);
	n = cmq_array_arg(PG_GETARG_DATUM(argno), INT8OID, "msg_ids", "queue", queue,
					  &elements, NULL);
	ids = palloc(sizeof(int64) * Max(n, 1));
	for (int i = 0; i < n; i++)
		ids[i] = DatumGetInt64(elements[i]);
	qsort(ids, n, sizeof(int64), compare_ids);
	*nids = 0;
	for (int i = 0; i < n; i++)
	{
		if (i == 0 || ids[i] != ids[*nids - 1])
			ids[(*nids)++] = ids[i];
	}
	return ids;
}

/*
 * Put the argument filter, which may be NULL, into *filter, for
 * cmq_slot_headers_contain(); false if it is NULL.  Raises 22023.
 */
bool
cmq_filter_arg(FunctionCallInfo fcinfo, int argno, const char *queue, Datum *filter)
{
	*filter = (Datum) 0;
	if (PG_ARGISNULL(argno))
		return false;
	/* the record of rewinds keeps it, and it is compared with each message */
	if (toast_raw_datum_size(PG_GETARG_DATUM(argno)) - VARHDRSZ > CMQ_FILTER_SIZE_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("filter is too large for queue \"%s\"", queue),
				 errdetail("It may have %d bytes.", CMQ_FILTER_SIZE_MAX)));
	*filter = JsonbPGetDatum(PG_GETARG_JSONB_P(argno));
	return true;
}

/*
 * Fill a window from two arguments: start_time, and end_time, which stands behind it.
 * Both may be NULL.  Raises 22023.
 */
void
cmq_times_args(FunctionCallInfo fcinfo, int argno_start, const char *queue,
			   CmqWindow *window)
{
	int			argno_end = argno_start + 1;

	memset(window, 0, sizeof(*window));
	window->start = PG_ARGISNULL(argno_start) ? DT_NOBEGIN :
		PG_GETARG_TIMESTAMPTZ(argno_start);
	window->end = PG_ARGISNULL(argno_end) ? DT_NOEND :
		PG_GETARG_TIMESTAMPTZ(argno_end);
	if (window->end < window->start)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("end_time is before start_time for queue \"%s\"",
						queue)));
}

/*
 * Fill a window from three arguments: start_time, end_time, which stands behind it, and
 * filter.  end_time and filter may be NULL.  Raises 22023.
 */
void
cmq_window_args(FunctionCallInfo fcinfo, int argno_start, int argno_filter,
				const char *queue, CmqWindow *window)
{
	cmq_require_arg(fcinfo, argno_start, "start_time", "queue", queue);
	cmq_times_args(fcinfo, argno_start, queue, window);
	window->has_filter = cmq_filter_arg(fcinfo, argno_filter, queue,
										&window->filter);
}
