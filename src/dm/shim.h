/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the C side of src/dm offers to its Rust side: inlines, macros, bit
 * fields, and kernel structs whose layout Rust must not know.
 *
 * Only forward declarations and <linux/types.h> here, so that a binding
 * generator can read this file without kernel headers.  ffi.rs mirrors it by
 * hand; shim.c includes the real headers, so that the compiler checks every
 * prototype against the kernel's own.
 */
#ifndef MULTISNAPSHOT_SHIM_H
#define MULTISNAPSHOT_SHIM_H

#include <linux/types.h>

struct bio;
struct block_device;
struct delayed_work;
struct dm_bufio_client;
struct dm_buffer;
struct dm_dev;
struct dm_io_client;
struct dm_kcopyd_client;
struct dm_target;
struct file;
struct module;
struct queue_limits;
struct target_type;
struct work_struct;
struct workqueue_struct;

/* Targets: target.rs, vtable.rs */

#define MS_FEATURE_SINGLETON	1
#define MS_FEATURE_NOWAIT	2
#define MS_FEATURE_IMMUTABLE	4
#define MS_FEATURE_WILDCARD	8

#define MS_MAP_SUBMITTED	0
#define MS_MAP_REMAPPED		1
#define MS_END_DONE		0
#define MS_END_INCOMPLETE	1

/* A target type; an operation that is NULL is left out. */
struct ms_target_desc {
	const char *name;
	struct module *module;
	unsigned int version[3];
	unsigned int features;
	int (*ctr)(struct dm_target *ti, unsigned int argc, char **argv);
	void (*dtr)(struct dm_target *ti);
	int (*map)(struct dm_target *ti, struct bio *bio);
	int (*end_io)(struct dm_target *ti, struct bio *bio, u8 *error);
	void (*presuspend)(struct dm_target *ti);
	void (*presuspend_undo)(struct dm_target *ti);
	void (*postsuspend)(struct dm_target *ti);
	int (*preresume)(struct dm_target *ti);
	void (*resume)(struct dm_target *ti);
	void (*status)(struct dm_target *ti, unsigned int kind,
		       unsigned int flags, char *result, unsigned int maxlen);
	int (*message)(struct dm_target *ti, unsigned int argc, char **argv,
		       char *result, unsigned int maxlen);
	int (*iterate_devices)(struct dm_target *ti,
			       int (*fn)(struct dm_target *ti,
					 struct dm_dev *dev, sector_t start,
					 sector_t len, void *data),
			       void *data);
	void (*io_hints)(struct dm_target *ti, struct queue_limits *limits);
};

/* What a constructor asks of dm, applied when it has succeeded. */
struct ms_target_opts {
	bool flush_bios;
	bool discard_bios;
	bool write_zeroes_bios;
	bool flush_supported;
	bool discards_supported;
	bool limit_swap_bios;
};

struct target_type *ms_target_register(const struct ms_target_desc *desc);
void ms_target_unregister(struct target_type *type);
void ms_target_setup(struct dm_target *ti, const struct ms_target_opts *opts,
		     unsigned int per_bio_size, void *private);
void *ms_target_private(struct dm_target *ti);
void ms_target_set_error(struct dm_target *ti, const char *error);
u64 ms_target_len(struct dm_target *ti);
bool ms_target_writable(struct dm_target *ti);
u32 ms_target_dev(struct dm_target *ti);
int ms_target_name(struct dm_target *ti, char *name);
void ms_target_event(struct dm_target *ti);
bool ms_target_removing(struct dm_target *ti);
bool ms_target_disk_ro(struct dm_target *ti);
int ms_get_device(struct dm_target *ti, const char *path, bool write,
		  struct dm_dev **dev);
struct block_device *ms_dm_dev_bdev(struct dm_dev *dev);
void ms_limits_io(struct queue_limits *limits, u32 min, u32 opt);
void ms_limits_discard(struct queue_limits *limits, u32 granularity,
		       u32 max_sectors);

/* Bios: bio.rs */

#define MS_OP_READ		0
#define MS_OP_WRITE		1
#define MS_OP_FLUSH		2
#define MS_OP_DISCARD		3
#define MS_OP_WRITE_ZEROES	4
#define MS_OP_OTHER		5

#define MS_BIO_FUA		1
#define MS_BIO_NOWAIT		2

#define MS_STS_OK		0
#define MS_STS_NOTSUPP		1
#define MS_STS_NOSPC		3
#define MS_STS_IOERR		10
#define MS_STS_AGAIN		12

/* Start of the per-bio data: the bio as it was when dm mapped it. */
struct ms_bio_head {
	void *private;		/* of the target */
	u64 sector;		/* from the start of the target */
	u32 sectors;
	u8 op;
	u8 flags;
	u16 bi_flags;		/* since the bio was first sent, */
	u8 iter[24];		/* with this iterator */
};

struct ms_bio_head *ms_bio_begin(struct dm_target *ti, struct bio *bio,
				 size_t size);
bool ms_bio_accept_partial(struct bio *bio, struct ms_bio_head *head,
			   unsigned int sectors);
void ms_bio_aim(struct bio *bio, struct ms_bio_head *head,
		struct block_device *bdev, sector_t sector);
void ms_bio_rearm(struct bio *bio, const struct ms_bio_head *head);
void ms_bio_end(struct bio *bio, u8 status);
void ms_bio_zero(struct bio *bio);
struct bio *ms_bio_next(struct bio *bio);
void ms_bio_set_next(struct bio *bio, struct bio *next);

/* Block devices: device.rs */

struct file *ms_bdev_open(u32 dev, bool write);
struct block_device *ms_bdev_of(struct file *file);
u64 ms_bdev_sectors(struct block_device *bdev);
bool ms_bdev_gone(struct block_device *bdev);
u32 ms_bdev_dev(struct block_device *bdev);
u32 ms_bdev_logical_block_size(struct block_device *bdev);
bool ms_bdev_read_only(struct block_device *bdev);

/* Copies and I/O: kcopyd.rs, io.rs */

#define MS_COPY_MAX_DESTS	8

#define MS_IO_WRITE		1
#define MS_IO_PREFLUSH		2
#define MS_IO_FUA		4

struct ms_region {
	struct block_device *bdev;
	u64 sector;
	u64 sectors;
};

/* @from: NULL writes zeroes */
void ms_copy(struct dm_kcopyd_client *kc, const struct ms_region *from,
	     unsigned int dests, const struct ms_region *to,
	     void (*fn)(int read_err, unsigned long write_err, void *context),
	     void *context);
/* @fn: NULL waits */
int ms_io(struct dm_io_client *client, unsigned int flags,
	  const struct ms_region *region, void *mem,
	  void (*fn)(unsigned long error, unsigned long unsup, void *context),
	  void *context);

/* Metadata buffers: bufio.rs */

struct dm_bufio_client *ms_bufio_create(struct block_device *bdev,
					unsigned int reserved,
					void (*write)(struct dm_buffer *));
void ms_bufio_lock(struct dm_buffer *b);
void ms_bufio_unlock(struct dm_buffer *b);
bool ms_bufio_verified(struct dm_buffer *b);
void ms_bufio_set_verified(struct dm_buffer *b);

/* The rest: queue.rs, noio.rs, time.rs, print.rs */

struct workqueue_struct *ms_queue_new(const char *name);
void ms_work_init(struct work_struct *work, void (*fn)(struct work_struct *));
void ms_dwork_init(struct delayed_work *work,
		   void (*fn)(struct work_struct *));
bool ms_work_queue(struct workqueue_struct *wq, struct work_struct *work);
bool ms_dwork_queue(struct workqueue_struct *wq, struct delayed_work *work,
		    u32 ms);
unsigned int ms_noio_save(void);
void ms_noio_restore(unsigned int flags);
u64 ms_now_ms(void);
bool ms_ratelimit(void);

#endif
