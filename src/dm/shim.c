// SPDX-License-Identifier: GPL-2.0
/*
 * The C side of src/dm: what Rust cannot reach, because it is an inline, a
 * macro or a bit field, or because its layout is the kernel's own business.
 * No policy here.
 */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/cred.h>
#include <linux/device-mapper.h>
#include <linux/dm-bufio.h>
#include <linux/dm-io.h>
#include <linux/dm-kcopyd.h>
#include <linux/ktime.h>
#include <linux/mutex.h>
#include <linux/ratelimit.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "shim.h"

#if IS_ENABLED(CONFIG_CFI)
#error "the callbacks of this module have types that kCFI does not take"
#endif

static_assert(MS_MAP_SUBMITTED == DM_MAPIO_SUBMITTED);
static_assert(MS_MAP_REMAPPED == DM_MAPIO_REMAPPED);
static_assert(MS_END_DONE == DM_ENDIO_DONE);
static_assert(MS_END_INCOMPLETE == DM_ENDIO_INCOMPLETE);
static_assert(MS_STS_OK == BLK_STS_OK);
static_assert(MS_STS_NOTSUPP == (__force u8)BLK_STS_NOTSUPP);
static_assert(MS_STS_NOSPC == (__force u8)BLK_STS_NOSPC);
static_assert(MS_STS_IOERR == (__force u8)BLK_STS_IOERR);
static_assert(MS_STS_AGAIN == (__force u8)BLK_STS_AGAIN);
static_assert(MS_COPY_MAX_DESTS == DM_KCOPYD_MAX_REGIONS);
static_assert(STATUSTYPE_INFO == 0 && STATUSTYPE_TABLE == 1 &&
	      STATUSTYPE_IMA == 2);
static_assert(sizeof(struct bvec_iter) <=
	      sizeof_field(struct ms_bio_head, iter));
static_assert(sizeof(((struct bio *)0)->bi_flags) ==
	      sizeof_field(struct ms_bio_head, bi_flags));

/* Targets */

struct target_type *ms_target_register(const struct ms_target_desc *desc)
{
	struct target_type *type;
	int r;

	type = kzalloc_obj(*type);
	if (!type)
		return ERR_PTR(-ENOMEM);
	type->name = desc->name;
	type->module = desc->module;
	memcpy(type->version, desc->version, sizeof(type->version));
	if (desc->features & MS_FEATURE_SINGLETON)
		type->features |= DM_TARGET_SINGLETON;
	if (desc->features & MS_FEATURE_NOWAIT)
		type->features |= DM_TARGET_NOWAIT;
	if (desc->features & MS_FEATURE_IMMUTABLE)
		type->features |= DM_TARGET_IMMUTABLE;
	/*
	 * dm's words for it speak of request-based devices too; those do not
	 * take a table of bio-based targets whatever its features.
	 */
	if (desc->features & MS_FEATURE_WILDCARD)
		type->features |= DM_TARGET_WILDCARD;
	type->ctr = desc->ctr;
	type->dtr = desc->dtr;
	type->map = desc->map;
	type->end_io = desc->end_io;
	type->presuspend = desc->presuspend;
	type->presuspend_undo = desc->presuspend_undo;
	type->postsuspend = desc->postsuspend;
	type->preresume = desc->preresume;
	type->resume = desc->resume;
	type->status = desc->status;
	type->message = desc->message;
	type->iterate_devices = desc->iterate_devices;
	type->io_hints = desc->io_hints;

	r = dm_register_target(type);
	if (r) {
		kfree(type);
		return ERR_PTR(r);
	}
	return type;
}

void ms_target_unregister(struct target_type *type)
{
	dm_unregister_target(type);
	kfree(type);
}

void ms_target_setup(struct dm_target *ti, const struct ms_target_opts *opts,
		     unsigned int per_bio_size, void *private)
{
	/*
	 * Never more than one: dm_accept_partial_bio() cannot be used on
	 * duplicates.
	 */
	ti->num_flush_bios = opts->flush_bios;
	ti->num_discard_bios = opts->discard_bios;
	ti->num_write_zeroes_bios = opts->write_zeroes_bios;
	ti->flush_supported = opts->flush_supported;
	ti->discards_supported = opts->discards_supported;
	ti->limit_swap_bios = opts->limit_swap_bios;
	/*
	 * The worker sends bios, by dm_submit_bio_remap(): it has each charged
	 * to the cgroup of whoever sent it.
	 */
	ti->accounts_remapped_io = true;
	ti->per_io_data_size = per_bio_size;
	ti->private = private;
}

void *ms_target_private(struct dm_target *ti)
{
	return ti->private;
}

void ms_target_set_error(struct dm_target *ti, const char *error)
{
	/* dm only prints it; the field lacks a const. */
	ti->error = (char *)error;
}

u64 ms_target_len(struct dm_target *ti)
{
	return ti->len;
}

bool ms_target_writable(struct dm_target *ti)
{
	return dm_table_get_mode(ti->table) & BLK_OPEN_WRITE;
}

u32 ms_target_dev(struct dm_target *ti)
{
	return disk_devt(dm_disk(dm_table_get_md(ti->table)));
}

int ms_target_name(struct dm_target *ti, char *name)
{
	return dm_copy_name_and_uuid(dm_table_get_md(ti->table), name, NULL);
}

void ms_target_event(struct dm_target *ti)
{
	dm_table_event(ti->table);
}

/* dm_hold() refuses a device that is being destroyed: there is no other way to ask. */
bool ms_target_removing(struct dm_target *ti)
{
	struct mapped_device *md = dm_table_get_md(ti->table);

	if (dm_hold(md))
		return true;
	dm_put(md);
	return false;
}

/* A table that takes the place of another has said whether the disk can be written by then. */
bool ms_target_disk_ro(struct dm_target *ti)
{
	return get_disk_ro(dm_disk(dm_table_get_md(ti->table)));
}

int ms_get_device(struct dm_target *ti, const char *path, bool write,
		  struct dm_dev **dev)
{
	return dm_get_device(ti, path,
			     BLK_OPEN_READ | (write ? BLK_OPEN_WRITE : 0), dev);
}

struct block_device *ms_dm_dev_bdev(struct dm_dev *dev)
{
	return dev->bdev;
}

void ms_limits_io(struct queue_limits *limits, u32 min, u32 opt)
{
	if (min)
		limits->io_min = min;
	if (opt)
		limits->io_opt = opt;
}

void ms_limits_discard(struct queue_limits *limits, u32 granularity,
		       u32 max_sectors)
{
	limits->discard_granularity = granularity;
	limits->discard_alignment = 0;
	limits->max_hw_discard_sectors = max_sectors;
}

/* Bios */

static u8 op_of(struct bio *bio)
{
	switch (bio_op(bio)) {
	case REQ_OP_READ:
		return bio_sectors(bio) ? MS_OP_READ : MS_OP_OTHER;
	case REQ_OP_WRITE:
		if (bio_sectors(bio))
			return MS_OP_WRITE;
		return bio->bi_opf & REQ_PREFLUSH ? MS_OP_FLUSH : MS_OP_OTHER;
	case REQ_OP_FLUSH:
		return MS_OP_FLUSH;
	case REQ_OP_DISCARD:
		return MS_OP_DISCARD;
	case REQ_OP_WRITE_ZEROES:
		return MS_OP_WRITE_ZEROES;
	default:
		return MS_OP_OTHER;
	}
}

struct ms_bio_head *ms_bio_begin(struct dm_target *ti, struct bio *bio,
				 size_t size)
{
	struct ms_bio_head *head = dm_per_bio_data(bio, size);

	head->private = ti->private;
	head->sectors = bio_sectors(bio);
	head->sector = head->sectors ?
		dm_target_offset(ti, bio->bi_iter.bi_sector) : 0;
	head->op = op_of(bio);
	head->flags = (bio->bi_opf & REQ_FUA ? MS_BIO_FUA : 0) |
		(bio->bi_opf & REQ_NOWAIT ? MS_BIO_NOWAIT : 0);
	head->bi_flags = 0;
	memset(head->iter, 0, sizeof(head->iter));
	return head;
}

/*
 * dm_accept_partial_bio() has a BUG_ON for each of the things that are looked
 * at here, and trusts that a flush never comes.  Duplicates do not exist: see
 * ms_target_setup().
 */
bool ms_bio_accept_partial(struct bio *bio, struct ms_bio_head *head,
			   unsigned int sectors)
{
	switch (head->op) {
	case MS_OP_READ:
	case MS_OP_WRITE:
	case MS_OP_DISCARD:
	case MS_OP_WRITE_ZEROES:
		break;
	default:
		return false;
	}
	if (!sectors || sectors > bio_sectors(bio))
		return false;
	if (bio->bi_opf & (REQ_ATOMIC | REQ_PREFLUSH))
		return false;
	if (bdev_is_zoned(bio->bi_bdev))
		return false;
	if (sectors < bio_sectors(bio)) {
		dm_accept_partial_bio(bio, sectors);
		head->sectors = sectors;
	}
	return true;
}

/* Remembers the bio's state, and turns it to its new place. */
void ms_bio_aim(struct bio *bio, struct ms_bio_head *head,
		struct block_device *bdev, sector_t sector)
{
	memcpy(head->iter, &bio->bi_iter, sizeof(bio->bi_iter));
	bio_set_dev(bio, bdev);
	head->bi_flags = bio->bi_flags;
	if (bio_sectors(bio))
		bio->bi_iter.bi_sector = sector;
}

/* The bio has ended below; makes it fit to be sent again (dm-bio-record.h). */
void ms_bio_rearm(struct bio *bio, const struct ms_bio_head *head)
{
	memcpy(&bio->bi_iter, head->iter, sizeof(bio->bi_iter));
	bio->bi_flags = head->bi_flags;
	bio->bi_status = BLK_STS_OK;
	atomic_set(&bio->__bi_remaining, 1);
}

void ms_bio_end(struct bio *bio, u8 status)
{
	bio->bi_status = (__force blk_status_t)status;
	bio_endio(bio);
}

void ms_bio_zero(struct bio *bio)
{
	zero_fill_bio(bio);
}

struct bio *ms_bio_next(struct bio *bio)
{
	return bio->bi_next;
}

void ms_bio_set_next(struct bio *bio, struct bio *next)
{
	bio->bi_next = next;
}

/* Block devices */

struct file *ms_bdev_open(u32 dev, bool write)
{
	struct file *file;

	/*
	 * An open file keeps the credentials of its opener, and this one lives
	 * longer than whoever loads or resumes a table.
	 */
	scoped_with_kernel_creds()
		file = bdev_file_open_by_dev(dev,
				BLK_OPEN_READ | (write ? BLK_OPEN_WRITE : 0),
				NULL, NULL);
	return file;
}

struct block_device *ms_bdev_of(struct file *file)
{
	return file_bdev(file);
}

u64 ms_bdev_sectors(struct block_device *bdev)
{
	return bdev_nr_sectors(bdev);
}

bool ms_bdev_gone(struct block_device *bdev)
{
	return test_bit(GD_DEAD, &bdev->bd_disk->state);
}

u32 ms_bdev_dev(struct block_device *bdev)
{
	return bdev->bd_dev;
}

u32 ms_bdev_logical_block_size(struct block_device *bdev)
{
	return bdev_logical_block_size(bdev);
}

bool ms_bdev_read_only(struct block_device *bdev)
{
	return bdev_read_only(bdev);
}

/* Copies and I/O */

static struct dm_io_region region_of(const struct ms_region *r)
{
	return (struct dm_io_region) {
		.bdev = r->bdev, .sector = r->sector, .count = r->sectors,
	};
}

void ms_copy(struct dm_kcopyd_client *kc, const struct ms_region *from,
	     unsigned int dests, const struct ms_region *to,
	     void (*fn)(int read_err, unsigned long write_err, void *context),
	     void *context)
{
	struct dm_io_region source, dest[MS_COPY_MAX_DESTS];
	unsigned int i;

	for (i = 0; i < dests; i++)
		dest[i] = region_of(&to[i]);
	if (!from) {
		dm_kcopyd_zero(kc, dests, dest, 0, fn, context);
		return;
	}
	source = region_of(from);
	dm_kcopyd_copy(kc, &source, dests, dest, 0, fn, context);
}

int ms_io(struct dm_io_client *client, unsigned int flags,
	  const struct ms_region *region, void *mem,
	  void (*fn)(unsigned long error, unsigned long unsup, void *context),
	  void *context)
{
	struct dm_io_region where = region_of(region);
	struct dm_io_request req = {
		.bi_opf = REQ_OP_READ,
		.mem.type = DM_IO_KMEM,
		.mem.ptr.addr = mem,
		.notify.fn = fn,
		.notify.context = context,
		.client = client,
	};

	if (flags & MS_IO_WRITE)
		req.bi_opf = REQ_OP_WRITE | REQ_SYNC |
			(flags & MS_IO_PREFLUSH ? REQ_PREFLUSH : 0) |
			(flags & MS_IO_FUA ? REQ_FUA : 0);
	return dm_io(&req, 1, &where, NULL, NULL, IOPRIO_DEFAULT);
}

/* Metadata buffers */

/* Behind each buffer. */
struct ms_bufio_aux {
	/*
	 * Held while someone looks at the content or changes it, or seals it
	 * for writing.  Inside dm-bufio's own lock, as the write callback may
	 * be called under that.
	 */
	struct mutex lock;
	bool verified;
};

static void buffer_allocated(struct dm_buffer *b)
{
	struct ms_bufio_aux *aux = dm_bufio_get_aux_data(b);

	mutex_init(&aux->lock);
	aux->verified = false;
}

struct dm_bufio_client *ms_bufio_create(struct block_device *bdev,
					unsigned int reserved,
					void (*write)(struct dm_buffer *))
{
	return dm_bufio_client_create(bdev, 4096, reserved,
				      sizeof(struct ms_bufio_aux),
				      buffer_allocated, write, 0);
}

void ms_bufio_lock(struct dm_buffer *b)
{
	struct ms_bufio_aux *aux = dm_bufio_get_aux_data(b);

	mutex_lock(&aux->lock);
}

void ms_bufio_unlock(struct dm_buffer *b)
{
	struct ms_bufio_aux *aux = dm_bufio_get_aux_data(b);

	mutex_unlock(&aux->lock);
}

bool ms_bufio_verified(struct dm_buffer *b)
{
	struct ms_bufio_aux *aux = dm_bufio_get_aux_data(b);

	return aux->verified;
}

void ms_bufio_set_verified(struct dm_buffer *b)
{
	struct ms_bufio_aux *aux = dm_bufio_get_aux_data(b);

	aux->verified = true;
}

/* The rest */

struct workqueue_struct *ms_queue_new(const char *name)
{
	return alloc_workqueue("%s", WQ_MEM_RECLAIM | WQ_PERCPU, 0, name);
}

void ms_work_init(struct work_struct *work, void (*fn)(struct work_struct *))
{
	INIT_WORK(work, fn);
}

void ms_dwork_init(struct delayed_work *work,
		   void (*fn)(struct work_struct *))
{
	INIT_DELAYED_WORK(work, fn);
}

bool ms_work_queue(struct workqueue_struct *wq, struct work_struct *work)
{
	return queue_work(wq, work);
}

bool ms_dwork_queue(struct workqueue_struct *wq, struct delayed_work *work,
		    u32 ms)
{
	return queue_delayed_work(wq, work, msecs_to_jiffies(ms));
}

unsigned int ms_noio_save(void)
{
	return memalloc_noio_save();
}

void ms_noio_restore(unsigned int flags)
{
	memalloc_noio_restore(flags);
}

u64 ms_now_ms(void)
{
	return ktime_to_ms(ktime_get());
}

bool ms_ratelimit(void)
{
	static DEFINE_RATELIMIT_STATE(state, 5 * HZ, 10);

	return ___ratelimit(&state, "dm-multisnapshot");
}

MODULE_VERSION("1.0.0");
