/*-------------------------------------------------------------------------
 *
 * cmq_args.h
 *	  Arguments of the functions: checked, with errors that name the queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_ARGS_H
#define CMQ_ARGS_H

#include "datatype/timestamp.h"
#include "fmgr.h"

/* Limits of settings and arguments; seconds unless said otherwise. */
#define CMQ_QUEUE_NAME_MAX			48	/* bytes */

/* The name of a journal is the mark and the name of its topic; no queue's is such. */
#define CMQ_JOURNAL_MARK '>'
#define cmq_is_journal_name(name) ((name)[0] == CMQ_JOURNAL_MARK)

/* What errors call a queue, or a journal, of this name. */
#define cmq_kind_of(name) (cmq_is_journal_name(name) ? "topic" : "queue")
#define cmq_plain(name) ((name) + cmq_is_journal_name(name))

#define CMQ_VISIBILITY_MIN			1
#define CMQ_VISIBILITY_MAX			43200
#define CMQ_POLLING_MIN				0
#define CMQ_POLLING_MAX				30
#define CMQ_RETENTION_MIN			60
#define CMQ_RETENTION_MAX			1296000
#define CMQ_REWIND_MIN				0
#define CMQ_MSG_SIZE_MIN			1024	/* bytes */
#define CMQ_MSG_SIZE_MAX			67108864	/* bytes */
#define CMQ_HEAP_NUM_MIN			1	/* messages */
#define CMQ_HEAP_NUM_MAX			INT64CONST(1000000000)	/* messages */
#define CMQ_BACKOFF_MAX				43200
#define CMQ_SHARE_MIN				1	/* per cent */
#define CMQ_SHARE_MAX				100
#define CMQ_DEDUP_MIN				0
#define CMQ_DEDUP_KEY_MIN			1	/* bytes */
#define CMQ_DEDUP_KEY_MAX			128 /* bytes */
#define CMQ_RECEIVE_COUNT_MIN		1
#define CMQ_RECEIVE_COUNT_MAX		1000
#define CMQ_TIME_TO_LIVE_MIN		300
#define CMQ_TIME_TO_LIVE_MAX		43200
#define CMQ_FILTERS_MAX				5	/* tags, filter tags, binding keys */
#define CMQ_SUBSCRIPTIONS_MAX		10	/* of one queue to one topic */
#define CMQ_TAG_MAX					16	/* characters */
#define CMQ_KEY_MAX					64	/* bytes */
#define CMQ_KEY_DOTS_MAX			15
#define CMQ_FILTER_SIZE_MAX			8192	/* bytes, of headers in a filter */
#define CMQ_REASON_MAX				1000	/* bytes */
#define CMQ_HEADERS_ADDED			4096	/* bytes of headers that cmq adds,
											 * at most */
#define CMQ_DELAY_MAX				(CMQ_RETENTION_MAX - 1)
#define CMQ_RECEIVE_MIN				1	/* messages */
#define CMQ_RECEIVE_MAX				1000	/* messages */

/* Which messages of the history are meant. */
typedef struct CmqWindow
{
	TimestampTz start;			/* included; DT_NOBEGIN: no start */
	TimestampTz end;			/* not included; DT_NOEND: no end */
	bool		has_filter;
	Datum		filter;			/* jsonb that the headers contain */
} CmqWindow;

extern char *cmq_name_arg(FunctionCallInfo fcinfo, int argno,
						  const char *argname);
extern char *cmq_queue_name_arg(FunctionCallInfo fcinfo, int argno);
extern bool cmq_is_constant_arg(FunctionCallInfo fcinfo, int argno);
extern void cmq_require_arg(FunctionCallInfo fcinfo, int argno,
							const char *argname, const char *kind,
							const char *name);
extern void cmq_check_range(const char *argname, int64 value, int64 min,
							int64 max, const char *unit, const char *queue);
extern int	cmq_int_arg(FunctionCallInfo fcinfo, int argno,
						const char *argname, int min, int max,
						int default_value, bool null_ok, const char *queue);
extern int	cmq_array_arg(Datum arg, Oid type, const char *argname,
						  const char *kind, const char *name,
						  Datum **elements, bool **isnull);
extern void cmq_texts_arg(FunctionCallInfo fcinfo, int argno,
						  const char *argname, const char *kind,
						  const char *name, int nbodies, Datum **texts,
						  bool **isnull);
extern void cmq_headers_arg(FunctionCallInfo fcinfo, int argno,
							const char *kind, const char *name, int nbodies,
							Datum **headers, bool **isnull);
extern int64 *cmq_msg_ids_arg(FunctionCallInfo fcinfo, int argno,
							  const char *queue, int *nids);
extern bool cmq_filter_arg(FunctionCallInfo fcinfo, int argno,
						   const char *queue, Datum *filter);
extern void cmq_times_args(FunctionCallInfo fcinfo, int argno_start,
						   const char *queue, CmqWindow *window);
extern void cmq_window_args(FunctionCallInfo fcinfo, int argno_start,
							int argno_filter, const char *queue,
							CmqWindow *window);

#endif							/* CMQ_ARGS_H */
